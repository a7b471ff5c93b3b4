package redisstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/parley-go/parley"
)

var errKeep = errors.New("redisstore: Append needs keep.Messages > 0, keep.Bytes >= 0 and keep.Age >= 0")

// newEpoch draws 64 bits: an epoch must never come twice for one topic, and need not be a secret. It is short,
// because every message carries it.
func newEpoch() string { return strconv.FormatUint(rand.Uint64(), 36) }

// appendCall is the part of a call of Append that is its own when several go together.
type appendCall struct {
	topic  string
	keep   parley.Retention
	keyed  bool  // an entry has a key
	stated bool  // an entry has a state, which lua/quick.lua does not know
	count  int   // of entries
	args   []any // as lua/append.lua has them for a caller

	answer string // a line of what lua/append.lua returns
	shared bool   // answer is a part of something longer

	// What args point to, and args itself, for the usual call.
	texts    []string
	oneArgs  [7]any
	oneTexts [4]string
	time     int64
}

// appendRequest is a call of Append that waits for its answer.
type appendRequest struct {
	request
	call appendCall
}

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
	r := &appendRequest{}
	r.merge = &r.call
	r.call.topic, r.call.keep = topic, keep
	r.size = r.call.copy(entries, payload) + 64*(1+len(entries))
	if err := s.once.doOne(ctx, topicSlot(topic), &r.request); err != nil {
		return parley.Log{}, err
	}
	return r.call.result(entries)
}

func (s *Store) publishCommand() string {
	if s.sharded() {
		return "SPUBLISH"
	}
	return "PUBLISH"
}

// What lua/message.lua is to publish.
var publishNothing, publishPayload, publishPieces = any("0"), any("1"), any("2")

// copy copies what it needs of entries and payload: the caller may leave while Redis is being written to. It returns how many bytes that is.
func (c *appendCall) copy(entries []parley.Entry, payload []byte) (size int) {
	publish := publishNothing
	if payload != nil {
		publish = publishPayload
	}
	var few [4]int
	ends, apart := pieces(few[:0], entries, payload)
	size = len(payload)
	for i := range entries {
		size += len(entries[i].Key)
		if !apart {
			size += len(entries[i].Data)
		}
	}
	var all strings.Builder
	all.Grow(size)
	if apart {
		publish = publishPieces
		all.Write(payload[:ends[0]])
	} else {
		all.Write(payload)
	}
	first := all.Len()
	for i := range entries {
		all.WriteString(entries[i].Key)
		all.Write(entries[i].Data)
		if apart {
			all.Write(payload[ends[i]+len(entries[i].Data) : ends[i+1]])
		}
	}
	rest := all.String()
	take := func(n int) *string {
		c.texts = append(c.texts, rest[:n])
		rest = rest[n:]
		return &c.texts[len(c.texts)-1]
	}
	c.args, c.texts = c.oneArgs[:0], c.oneTexts[:0]
	if len(entries) > 1 {
		c.args, c.texts = make([]any, 0, 3+4*len(entries)), make([]string, 0, 1+3*len(entries))
	}
	c.args, c.count = append(c.args, len(entries), publish, take(first)), len(entries)
	for i := range entries {
		e := &entries[i]
		c.keyed = c.keyed || e.Key != ""
		after := 0
		if apart {
			after = ends[i+1] - ends[i] - len(e.Data)
		}
		c.args = append(c.args, take(len(e.Key)), take(len(e.Data)), c.rest(e, len(entries) == 1), take(after))
	}
	return size
}

// pieces returns where the data of each entry begins in a payload that holds them in order, and the length of the payload. So
// the data need not go to Redis twice. Not ok: the payload does not hold them.
func pieces(ends []int, entries []parley.Entry, payload []byte) (_ []int, ok bool) {
	from := 0
	for i := range entries {
		at := bytes.Index(payload[from:], entries[i].Data)
		if at < 0 || len(payload) == 0 {
			return nil, false
		}
		ends = append(ends, from+at)
		from += at + len(entries[i].Data)
	}
	return append(ends, len(payload)), true
}

// rest is what the script needs to know of an entry besides.
func (c *appendCall) rest(e *parley.Entry, only bool) any {
	if e.Unread || e.TTL > 0 || e.ReceiveIn > 0 {
		c.stated = true
		state := "n"
		if e.Unread {
			state = "u"
		}
		return fmt.Sprint(e.Time, " ", state, " ", millis(e.TTL), " ", millis(e.ReceiveIn))
	}
	if only {
		c.time = e.Time
		return &c.time
	}
	return e.Time
}

// result takes the answer apart, and fills in entries.
func (c *appendCall) result(entries []parley.Entry) (log parley.Log, err error) {
	line := c.answer
	next := func() (n int64) {
		var word string
		word, line, _ = strings.Cut(line, " ")
		n, bad := strconv.ParseInt(word, 10, 64)
		if bad != nil {
			err = errReply
		}
		return n
	}
	log.Epoch, line, _ = strings.Cut(line, " ")
	if c.shared {
		log.Epoch = strings.Clone(log.Epoch)
	}
	log.Unread, log.Version, log.Truncated = int(next()), next(), next()
	for i := range entries {
		offset := next()
		entries[i].Offset, entries[i].Duplicate = max(offset, -offset), offset < 0
	}
	if line != "" {
		err = errReply
	}
	return log, err
}

// millis rounds up, so that what is short is not none.
func millis(d time.Duration) int64 {
	if d <= 0 {
		return 0
	}
	return int64((d-1)/time.Millisecond) + 1
}
