package checker

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// whoView is what one client believes about who is in a room.
type whoView struct {
	client int
	topic  string
	since  Event // the last roster; N is 0 while there is none
	users  map[string]bool
	told   map[string]Event // the last system message, by user
}

// checkPresence judges P8: whenever all is quiet, what clients were told is
// what is true. Members says what is true.
func (j *judge) checkPresence() {
	views := make(map[viewKey]*whoView)
	var order []*whoView
	connOf := make(map[int]int)
	for _, e := range j.history.Events {
		switch e.Kind {
		case Connected:
			connOf[e.Client] = e.Conn
			for _, v := range order {
				if v.client == e.Client {
					v.reset()
				}
			}
		case Left, Ousted, Dropped:
			if v := views[viewKey{e.Client, e.Topic}]; v != nil {
				v.reset()
			}
		case Roster, Came, Went, Told:
			v := views[viewKey{e.Client, e.Topic}]
			if v == nil {
				v = &whoView{client: e.Client, topic: e.Topic}
				v.reset()
				views[viewKey{e.Client, e.Topic}] = v
				order = append(order, v)
			}
			if connOf[e.Client] == e.Conn {
				v.see(e)
			}
		case Members:
			for _, v := range order {
				if v.topic == e.Topic && slices.Contains(e.Present, v.client) {
					j.presence(v, e)
				}
			}
		}
	}
}

func (v *whoView) reset() {
	v.since, v.users, v.told = Event{}, make(map[string]bool), make(map[string]Event)
}

func (v *whoView) see(e Event) {
	switch e.Kind {
	case Roster:
		v.since = e
		clear(v.users)
		fallthrough
	case Came:
		for _, u := range e.Users {
			v.users[u] = true
		}
	case Went:
		for _, u := range e.Users {
			delete(v.users, u)
		}
	case Told:
		v.told[e.User] = e
	}
}

func (j *judge) presence(v *whoView, e Event) {
	there := slices.Sorted(maps.Keys(v.users))
	truth := slices.Sorted(slices.Values(e.Users))
	switch {
	case v.since.N == 0 && j.history.Nodes > 1 && !rostersFollow:
	case v.since.N == 0:
		j.fault("P8", fmt.Sprintf("client %d was never told who is in %s", v.client, v.topic), e)
	case !slices.Equal(there, truth):
		j.fault("P8", fmt.Sprintf("client %d believes that [%s] are in %s", v.client, strings.Join(there, " "), v.topic), v.since, e)
	}
	if j.history.Nodes > 1 {
		return // system messages may be lost between nodes
	}
	for _, user := range slices.Sorted(maps.Keys(v.told)) {
		last := v.told[user]
		if present := slices.Contains(truth, user); present != (last.Code == "joined") {
			j.fault("P8", fmt.Sprintf("the last that client %d was told of %s is that it has %s", v.client, user, last.Code), last, e)
		}
	}
}
