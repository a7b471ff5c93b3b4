package checker

import "fmt"

// Takeover implements client.
func (c *wireClient) Takeover() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn != nil && c.conn.greeted && !c.refused && !c.stopping {
		c.takeover = true
		c.poke()
	}
}

// Back implements client.
func (c *wireClient) Back(oldSession bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.refused {
		return
	}
	if !oldSession {
		c.session = ""
	}
	c.refused = false
	c.poke()
}

// Rest implements client.
func (c *wireClient) Rest() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.refused:
		return fmt.Sprintf("client %d was told not to come back", c.number)
	case c.conn == nil:
		return fmt.Sprintf("client %d has no connection", c.number)
	case !c.conn.greeted:
		return fmt.Sprintf("client %d was not greeted", c.number)
	case !c.conn.bound:
		return fmt.Sprintf("client %d does not know what was broadcast", c.number)
	case c.user != "" && !c.conn.based:
		return fmt.Sprintf("client %d has no inbox", c.number)
	}
	for _, r := range c.rooms {
		if r.want != (r.state == roomIn) {
			return fmt.Sprintf("client %d: room %s", c.number, r.name)
		}
	}
	for _, q := range c.pending {
		return fmt.Sprintf("client %d: %s is not answered", c.number, q.id)
	}
	return ""
}

// Rooms implements client.
func (c *wireClient) Rooms() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var in []string
	for _, r := range c.rooms {
		if r.state == roomIn {
			in = append(in, r.name)
		}
	}
	return in
}

// User implements client.
func (c *wireClient) User() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.userID
}

// ClientID implements client.
func (c *wireClient) ClientID() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.clientID
}

// Stop implements client. It returns when all connections have ended.
func (c *wireClient) Stop() {
	c.mu.Lock()
	c.stopping = true
	c.poke()
	c.mu.Unlock()
	<-c.over
}
