package redisstore

import (
	"context"
	"errors"

	"github.com/parley-go/parley"
)

var errMark = errors.New("redisstore: Mark needs As to be MarkRead, MarkUnread, MarkArchived or MarkReceived")

// marks are the names of parley.MarkAs in lua/mark.lua.
var marks = map[parley.MarkAs]string{
	parley.MarkRead: "r", parley.MarkUnread: "u", parley.MarkArchived: "a", parley.MarkReceived: "v",
}

// Mark implements [parley.Store].
func (s *Store) Mark(ctx context.Context, topic string, m parley.Mark) (marked parley.Marked, err error) {
	as, ok := marks[m.As]
	if !ok {
		return marked, errMark
	}
	tag := s.tag(topic)
	args := make([]any, 0, 5+len(m.Offsets)+len(m.Keys))
	args = append(args, newEpoch(), as, m.Epoch, m.UpTo, len(m.Offsets))
	for _, offset := range m.Offsets {
		args = append(args, offset)
	}
	for _, key := range m.Keys {
		args = append(args, key)
	}
	reply, err := s.once.call(ctx, tag, scriptMark, s.logKeys(tag), args...)
	if err != nil {
		return marked, err
	}
	list, ok := reply.([]any)
	if !ok || len(list) != 6 {
		return marked, errReply
	}
	var p parser
	marked.Epoch, marked.Top = p.text(list[0]), p.number(list[1])
	marked.Unread, marked.Version, marked.Truncated = int(p.number(list[2])), p.number(list[3]), p.number(list[4])
	spans := p.list(list[5])
	for i := 0; i+1 < len(spans); i += 2 {
		marked.Changed = append(marked.Changed, parley.Span{From: p.number(spans[i]), To: p.number(spans[i+1])})
	}
	return marked, p.err
}
