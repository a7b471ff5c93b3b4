package redisstore

import (
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/parley-go/parley"
)

const (
	// mergeCalls, mergeEntries and mergeBytes bound how much one run of a script does: nothing else runs meanwhile. A function
	// in Lua takes some thousands of arguments, two for each entry.
	mergeCalls   = 128
	mergeEntries = 512
	mergeBytes   = 128 << 10
	// mergeTopics is how many topics one run may be about. More would save hardly anything.
	mergeTopics = 16
)

// job is what one or several requests become.
type job struct {
	single  *request // anything but calls of Append
	parts   []*part  // calls of Append
	quick   bool     // by lua/quick.lua, which refuses what it does not know
	cmd     *redis.Cmd
	calls   int  // in parts
	entries int  // of calls
	size    int  // of calls
	source  bool // Redis needs the source of the script
	late    bool // Redis was not ready
}

// part is the calls of Append for one topic that are carried out together.
type part struct {
	requests []*request
	first    [1]*request // what requests has in the usual case
	job      *job
	names    *topicNames
	keyed    bool // an entry has a key
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
	var quick, whole *job // for further topics
	for _, r := range batch {
		if r.merge == nil {
			list = append(list, &job{single: r})
			continue
		}
		p := parts[r.merge.topic]
		if p == nil || !p.takes(r) {
			names := l.namesOf(r.merge)
			open, isQuick := &whole, names.isQuick(r.merge)
			if isQuick {
				open = &quick
			}
			if *open == nil || l.apart.Load() || len((*open).parts) >= mergeTopics || !(*open).fits(r) {
				*open = &job{quick: isQuick}
				list = append(list, *open)
			}
			p = &part{job: *open, names: names}
			p.requests = p.first[:0]
			p.job.parts = append(p.job.parts, p)
			if parts != nil {
				parts[r.merge.topic] = p
			}
		}
		p.add(r)
	}
	return list
}

// takes reports whether a part may have r besides.
func (p *part) takes(r *request) bool {
	return r.merge.keep == p.names.keep && !(p.job.quick && r.merge.stated) && p.job.fits(r)
}

func (p *part) add(r *request) {
	p.requests = append(p.requests, r)
	p.keyed = p.keyed || r.merge.keyed
	p.job.calls++
	p.job.entries += r.merge.count
	p.job.size += r.size
}

// fits reports whether a run of the script may do r besides.
func (j *job) fits(r *request) bool {
	return j.calls < mergeCalls && j.entries+r.merge.count <= mergeEntries && j.size+r.size <= mergeBytes
}

// newJob returns a job for the time after the first attempt: should there be none, it has failed.
func newJob(parts ...*part) *job {
	j := &job{parts: parts, cmd: redis.NewCmd(background)}
	j.cmd.SetErr(errTimeout)
	return j
}

// split returns a job for each topic.
func (j *job) split() (list []*job) {
	for _, p := range j.parts {
		p.job = newJob(p)
		p.job.quick = j.quick
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
	if args[0] == "PUBLISH" {
		j.cmd.SetFirstKeyPos(1) // the channel: by the node of a Cluster that runs the scripts of the topic, else it may overtake what they publish
	}
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

// appendArgs are those that lua/topics.lua or lua/quick.lua tells of.
func (l *line) appendArgs(j *job) []any {
	keys, more := 0, 4+3*len(j.parts)
	for _, p := range j.parts {
		keys += len(p.keys())
		for _, r := range p.requests {
			more += len(r.merge.args)
		}
	}
	program := scriptAppend
	if j.quick {
		program = scriptQuick
	}
	args := l.evalArgs(j, program, keys, more)
	for _, p := range j.parts {
		names := p.keys()
		for i := range names {
			args = append(args, &names[i])
		}
	}
	switch {
	case !j.quick:
		args = append(args, newEpoch())
	case len(j.parts) > 1:
		args = append(args, "")
	}
	args = append(args, l.store.publishCommand())
	for _, p := range j.parts {
		size := 0
		for _, r := range p.requests {
			size += len(r.merge.args)
		}
		args = append(args, &p.names.kept)
		switch {
		case !j.quick:
			args = append(args, size)
		case len(j.parts) > 1:
			args = append(args, len(p.keys()), size)
		}
		for _, r := range p.requests {
			args = append(args, r.merge.args...)
		}
	}
	return args
}

// keys are those of the topic that the script uses.
func (p *part) keys() []string {
	switch {
	case !p.job.quick:
		return p.names.keys[:]
	case p.keyed:
		return p.names.keys[:4]
	}
	return p.names.keys[:2]
}

// topicNames is what a run of the Append script needs to know of a topic.
type topicNames struct {
	keys [len(logParts)]string
	keep parley.Retention
	kept string // keep as the script wants it

	refused int // how often lua/quick.lua has refused it in a row
	skip    int // how often it is not asked
}

// logParts are the keys of a topic that the Append scripts use, in this order: lua/quick.lua the first two always, the next two for keys.
var logParts = [...]string{"log", "messages", "keys0", "keys1", "info", "due", "ends"}

// maxNames is how many topics a line knows the names for.
const maxNames = 4096

// namesOf returns the names for a topic, which most of the time are known.
func (l *line) namesOf(c *appendCall) *topicNames {
	n := l.names[c.topic]
	if n != nil && n.keep == c.keep {
		return n
	}
	base := l.store.base(l.store.tag(c.topic))
	n = &topicNames{keep: c.keep, kept: fmt.Sprintf("%d %d %d ", c.keep.Messages, c.keep.Bytes, millis(c.keep.Age)), skip: 1} // it may be new
	for i, part := range logParts {
		n.keys[i] = base + part
	}
	if len(l.names) >= maxNames {
		clear(l.names)
	}
	l.names[c.topic] = n
	return n
}

// isQuick reports whether c is worth trying with lua/quick.lua.
func (n *topicNames) isQuick(c *appendCall) bool {
	if c.stated || c.count > mergeEntries {
		return false
	}
	if n.skip > 0 {
		n.skip--
		return false
	}
	return true
}

// answered notes whether lua/quick.lua has done it. If it has refused again and again, it is asked ever more rarely.
func (n *topicNames) answered(done bool) {
	if done {
		n.refused = 0
		return
	}
	n.refused = min(n.refused+1, 7)
	n.skip = 1<<(n.refused-1) - 1
}

// scriptError is what Redis says about one topic of several.
type scriptError string

func (e scriptError) Error() string { return string(e) }

// RedisError marks it as an answer of Redis, for [redis.Error].
func (scriptError) RedisError() {}

// finish hands the answer to those who wait for it, and returns a job for what lua/quick.lua has refused.
func (j *job) finish() (again *job) {
	reply, err := j.cmd.Result()
	if j.parts == nil {
		j.single.finish(reply, err)
		return nil
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
		if j.quick {
			p.names.answered(text != "")
		}
		if why, failed := strings.CutPrefix(text, "!"); failed {
			p.finish("", scriptError(why))
		} else if text != "" || !j.quick {
			p.finish(text, nil)
		} else {
			if again == nil {
				again = newJob()
			}
			again.parts, p.job = append(again.parts, p), again
		}
	}
	return again
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
