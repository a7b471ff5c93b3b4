package redisstore

import "github.com/redis/go-redis/v9"

const (
	// mergeCalls and mergeBytes bound how much one run of a script does: nothing else runs meanwhile.
	mergeCalls = 128
	mergeBytes = 128 << 10
)

// job is what one or several requests become.
type job struct {
	requests []*request // several: calls of Append for the same topic
	cmd      *redis.Cmd
	size     int
	source   bool // Redis needs the source of the script
	late     bool // Redis was not ready
}

// onceCmd is a command that the client must not send again by itself when the connection breaks.
type onceCmd struct{ *redis.Cmd }

func (onceCmd) NoRetry() bool { return true }

// jobs makes jobs of requests: calls of Append for the same topic are carried out by one.
func (l *lines) jobs(batch []*request) []*job {
	list := make([]*job, 0, len(batch))
	var open map[string]*job // by topic: the last one for it
	if len(batch) > 1 {
		open = make(map[string]*job)
	}
	for _, r := range batch {
		if r.merge != nil && open != nil {
			c := open[r.merge.topic]
			if c != nil && r.merge.joins(c.requests[0].merge) && len(c.requests) < mergeCalls && c.size+r.size <= mergeBytes {
				c.requests = append(c.requests, r)
				c.size += r.size
				continue
			}
		}
		if r.merge != nil {
			r.keys, r.args = l.store.appendHead(r.merge)
		}
		c := &job{requests: []*request{r}, size: r.size}
		list = append(list, c)
		if r.merge != nil && open != nil {
			open[r.merge.topic] = c
		}
	}
	return list
}

// cmder returns a new command for the client.
func (c *job) cmder(once bool) redis.Cmder {
	first := c.requests[0]
	n := 3 + len(first.keys) + len(first.args)
	for _, r := range c.requests {
		if r.merge != nil {
			n += len(r.merge.args)
		}
	}
	args := make([]any, 0, n)
	if sc := first.script; sc != nil {
		if c.source {
			args = append(args, "eval", sc.source, len(first.keys))
		} else {
			args = append(args, "evalsha", sc.hash, len(first.keys))
		}
		for _, key := range first.keys {
			args = append(args, key)
		}
	}
	args = append(args, first.args...)
	for _, r := range c.requests {
		if r.merge != nil {
			args = append(args, r.merge.args...)
		}
	}
	c.cmd = redis.NewCmd(background, args...)
	if once {
		return onceCmd{c.cmd}
	}
	return c.cmd
}

// finish hands the answer to those who wait for it.
func (c *job) finish() {
	reply, err := c.cmd.Result()
	for i, r := range c.requests {
		r.reply, r.err = reply, err
		if r.merge != nil {
			r.merge.place = i
		}
		close(r.done)
	}
}
