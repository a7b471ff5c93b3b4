package redisstore

import (
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/parley-go/parley"
)

const (
	// mergeCalls and mergeBytes bound how much one run of a script does: nothing else runs meanwhile.
	mergeCalls = 128
	mergeBytes = 128 << 10
	// mergeTopics is how many topics one run may be about. More would save hardly anything.
	mergeTopics = 16
)

// job is what one or several requests become.
type job struct {
	single *request // anything but calls of Append
	parts  []*part  // calls of Append
	cmd    *redis.Cmd
	calls  int  // in parts
	size   int  // of calls
	source bool // Redis needs the source of the script
	late   bool // Redis was not ready
}

// part is the calls of Append for one topic that are carried out together.
type part struct {
	requests []*request
	first    [1]*request // what requests has in the usual case
	job      *job
	names    *topicNames
}

// onceCmd is a command that the client must not send again by itself when the connection breaks.
type onceCmd struct{ *redis.Cmd }

func (onceCmd) NoRetry() bool { return true }

// jobs makes jobs of requests: calls of Append are carried out together, where that is possible.
func (l *line) jobs(batch []*request) []*job {
	list := make([]*job, 0, len(batch))
	var parts map[string]*part // by topic: the last one for it
	if len(batch) > 1 {
		parts = make(map[string]*part, len(batch))
	}
	var open *job // for further topics
	for _, r := range batch {
		if r.merge == nil {
			list = append(list, &job{single: r})
			continue
		}
		p := parts[r.merge.topic]
		if p == nil || r.merge.keep != p.requests[0].merge.keep || !p.job.fits(r) {
			if open == nil || l.apart.Load() || len(open.parts) >= mergeTopics || !open.fits(r) {
				open = &job{}
				list = append(list, open)
			}
			p = &part{job: open}
			p.requests = p.first[:0]
			open.parts = append(open.parts, p)
			if parts != nil {
				parts[r.merge.topic] = p
			}
		}
		p.requests = append(p.requests, r)
		p.job.calls++
		p.job.size += r.size
	}
	return list
}

// fits reports whether a run of the script may do r besides.
func (j *job) fits(r *request) bool {
	return j.calls < mergeCalls && j.size+r.size <= mergeBytes
}

// split returns a job for each topic.
func (j *job) split() (list []*job) {
	for _, p := range j.parts {
		p.job = &job{parts: []*part{p}}
		list = append(list, p.job)
	}
	return list
}

// cmder returns a new command for the client.
func (l *line) cmder(j *job) redis.Cmder {
	var args []any
	if j.parts != nil {
		args = l.appendArgs(j)
	} else {
		args = l.singleArgs(j, j.single)
	}
	j.cmd = redis.NewCmd(background, args...)
	if l.once {
		return onceCmd{j.cmd}
	}
	return j.cmd
}

// evalArgs begins the arguments of a run of a script.
func (l *line) evalArgs(j *job, sc *script, keys, more int) []any {
	program := sc.program(l.store.opts.Durable)
	args := make([]any, 0, 3+keys+more)
	if j.source {
		return append(args, "eval", program.source, keys)
	}
	return append(args, "evalsha", program.hash, keys)
}

func (l *line) singleArgs(j *job, r *request) []any {
	if r.script == nil {
		return r.args
	}
	args := l.evalArgs(j, r.script, len(r.keys), len(r.args))
	for i := range r.keys {
		args = append(args, &r.keys[i])
	}
	return append(args, r.args...)
}

// appendArgs are those that lua/topics.lua tells of.
func (l *line) appendArgs(j *job) []any {
	more := 3 + 4*len(j.parts)
	for _, p := range j.parts {
		for _, r := range p.requests {
			more += len(r.merge.args)
		}
	}
	args := l.evalArgs(j, scriptAppend, len(logParts)*len(j.parts), more)
	for _, p := range j.parts {
		p.names = l.namesOf(p.requests[0].merge)
		for i := range p.names.keys {
			args = append(args, &p.names.keys[i])
		}
	}
	args = append(args, newEpoch(), windowMillis, l.store.publishCommand())
	for _, p := range j.parts {
		size, kind := 0, "p"
		for _, r := range p.requests {
			size += len(r.merge.args)
			if r.merge.stated {
				kind = ""
			} else if r.merge.keyed && kind != "" {
				kind = "k"
			}
		}
		args = append(args, &p.names.kept, &p.names.channel, size, kind)
		for _, r := range p.requests {
			args = append(args, r.merge.args...)
		}
	}
	return args
}

// topicNames is what a run of the Append script needs to know of a topic.
type topicNames struct {
	keys    [len(logParts)]string
	channel string
	keep    parley.Retention
	kept    string // keep as the script wants it
}

// logParts are the keys of a topic that the Append script uses, in this order.
var logParts = [...]string{"log", "messages", "info", "due", "keys0", "keys1", "ends"}

// maxNames is how many topics a line knows the names for.
const maxNames = 4096

// namesOf returns the names for a topic, which most of the time are known.
func (l *line) namesOf(c *appendCall) *topicNames {
	n := l.names[c.topic]
	if n != nil && n.keep == c.keep {
		return n
	}
	base := l.store.base(l.store.tag(c.topic))
	n = &topicNames{channel: base + live, keep: c.keep, kept: fmt.Sprintf("%d %d %d ", c.keep.Messages, c.keep.Bytes, millis(c.keep.Age))}
	for i, part := range logParts {
		n.keys[i] = base + part
	}
	if len(l.names) >= maxNames {
		clear(l.names)
	}
	l.names[c.topic] = n
	return n
}

// scriptError is what Redis says about one topic of several.
type scriptError string

func (e scriptError) Error() string { return string(e) }

// RedisError marks it as an answer of Redis, for [redis.Error].
func (scriptError) RedisError() {}

// finish hands the answer to those who wait for it.
func (j *job) finish() {
	reply, err := j.cmd.Result()
	if j.parts == nil {
		j.single.finish(reply, err)
		return
	}
	answers, _ := reply.([]any)
	if err == nil && len(answers) != len(j.parts) {
		err = errReply
	}
	for i, p := range j.parts {
		if err != nil {
			p.finish("", err)
			continue
		}
		text, _ := answers[i].(string)
		if why, failed := strings.CutPrefix(text, "!"); failed {
			p.finish("", scriptError(why))
		} else {
			p.finish(text, nil)
		}
	}
}

// finish gives each call its line of the answer.
func (p *part) finish(answer string, err error) {
	for _, r := range p.requests {
		r.merge.answer, answer, _ = strings.Cut(answer, "\n")
		r.merge.shared = len(p.requests) > 1
		r.finish(nil, err)
	}
}

func (r *request) finish(reply any, err error) {
	r.reply, r.err = reply, err
	close(r.done)
}
