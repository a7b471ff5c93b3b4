package redisstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/parley-go/parley"
)

var errKeep = errors.New("redisstore: Append needs keep.Messages > 0, keep.Bytes >= 0 and keep.Age >= 0")

// newEpoch draws 50 bits: enough to tell apart the few epochs that one topic sees, and short,
// because every message carries it.
func newEpoch() string { return rand.Text()[:10] }

// appendCall is the part of a call of Append that is its own when several go together.
type appendCall struct {
	topic string
	keep  parley.Retention
	args  []any // how many entries, whether there is a payload, the payload; of each entry key, data and the rest
	place int   // among those that went together, counted from 0
}

// joins reports whether c can go with another call for the same topic.
func (c *appendCall) joins(other *appendCall) bool { return c.keep == other.keep }

// Append implements [parley.Store].
func (s *Store) Append(ctx context.Context, topic string, keep parley.Retention, entries []parley.Entry) (parley.Log, error) {
	return s.append(ctx, topic, keep, entries, nil)
}

// AppendPublish implements [parley.AppendPublisher].
func (s *Store) AppendPublish(ctx context.Context, topic string, keep parley.Retention, entries []parley.Entry, payload []byte) (parley.Log, error) {
	if payload == nil {
		payload = []byte{}
	}
	return s.append(ctx, topic, keep, entries, payload)
}

func (s *Store) append(ctx context.Context, topic string, keep parley.Retention, entries []parley.Entry, payload []byte) (parley.Log, error) {
	if keep.Messages <= 0 || keep.Bytes < 0 || keep.Age < 0 {
		return parley.Log{}, errKeep
	}
	if len(entries) == 0 {
		page, err := s.Read(ctx, topic, parley.Query{})
		return page.Log, err
	}
	if err := s.await(ctx, topic, entries); err != nil {
		return parley.Log{}, err
	}
	tag := s.tag(topic)
	r := &request{script: scriptAppend, merge: newAppendCall(topic, keep, entries, payload)}
	r.size = len(payload) + 64
	for i := range entries {
		r.size += len(entries[i].Data) + len(entries[i].Key) + 64
	}
	if err := s.once.do(ctx, tag, r); err != nil {
		return parley.Log{}, err
	}
	return r.merge.result(r.reply, entries)
}

// appendHead returns what several calls of Append for the same topic have in common.
func (s *Store) appendHead(c *appendCall) (keys []string, args []any) {
	base := s.base(s.tag(c.topic))
	keys = []string{base + "log", base + "messages", base + "info", base + "due", base + "keys0", base + "keys1", base + "ends"}
	args = []any{
		newEpoch(), c.keep.Messages, c.keep.Bytes, millis(c.keep.Age), parley.IdempotencyWindow.Milliseconds(),
		s.publishCommand(), s.channel(c.topic),
	}
	return keys, args
}

func (s *Store) publishCommand() string {
	if s.sharded() {
		return "SPUBLISH"
	}
	return "PUBLISH"
}

// newAppendCall copies what it needs of entries: the caller may leave while Redis is being written to.
func newAppendCall(topic string, keep parley.Retention, entries []parley.Entry, payload []byte) *appendCall {
	c := &appendCall{topic: topic, keep: keep, args: make([]any, 0, 3+3*len(entries))}
	publish := "0"
	if payload != nil {
		publish = "1"
	}
	c.args = append(c.args, len(entries), publish, string(payload))
	for i := range entries {
		e := &entries[i]
		rest := strconv.FormatInt(e.Time, 10)
		if e.Unread || e.TTL > 0 || e.ReceiveIn > 0 {
			state := "n"
			if e.Unread {
				state = "u"
			}
			rest = fmt.Sprint(rest, " ", state, " ", millis(e.TTL), " ", millis(e.ReceiveIn))
		}
		c.args = append(c.args, e.Key, string(e.Data), rest)
	}
	return c
}

// result takes the answer for c from what the script has returned, and fills in entries.
func (c *appendCall) result(reply any, entries []parley.Entry) (log parley.Log, err error) {
	list, ok := reply.([]any)
	at := 1 + 4*c.place
	if !ok || len(list) < at+4 {
		return log, errReply
	}
	var p parser
	log.Epoch = p.text(list[0])
	log.Unread, log.Version, log.Truncated = int(p.number(list[at])), p.number(list[at+1]), p.number(list[at+2])
	offsets := p.list(list[at+3])
	if len(offsets) != len(entries) {
		return log, errReply
	}
	for i := range entries {
		offset := p.number(offsets[i])
		entries[i].Offset, entries[i].Duplicate = max(offset, -offset), offset < 0
	}
	return log, p.err
}

// millis rounds up, so that what is short is not none.
func millis(d time.Duration) int64 {
	if d <= 0 {
		return 0
	}
	return int64((d-1)/time.Millisecond) + 1
}
