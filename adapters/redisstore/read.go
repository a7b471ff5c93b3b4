package redisstore

import (
	"context"
	"strconv"
	"strings"

	"github.com/parley-go/parley"
)

// Read implements [parley.Store].
func (s *Store) Read(ctx context.Context, topic string, q parley.Query) (parley.Page, error) {
	tag := s.tag(topic)
	direction, mark := "b", q.Before
	if q.Forward {
		direction, mark = "f", q.After
	}
	marks := 0
	if q.Marks {
		marks = 1
	}
	reply, err := s.again.call(ctx, tag, scriptRead, s.logKeys(tag), newEpoch(), direction, mark, q.Limit, marks)
	if err != nil {
		return parley.Page{}, err
	}
	return parsePage(reply)
}

// logKeys are the keys that log.lua needs.
func (s *Store) logKeys(tag string) []string {
	base := s.base(tag)
	return []string{base + "log", base + "messages", base + "info", base + "due"}
}

func parsePage(reply any) (page parley.Page, err error) {
	list, ok := reply.([]any)
	if !ok || len(list) != 11 {
		return page, errReply
	}
	var p parser
	page.Epoch, page.Top, page.First = p.text(list[0]), p.number(list[1]), p.number(list[2])
	page.Unread, page.Version, page.Truncated = int(p.number(list[3])), p.number(list[4]), p.number(list[5])
	now, from := p.number(list[6]), p.number(list[7])
	data, infos, marks := p.list(list[8]), p.list(list[9]), p.list(list[10])
	if len(infos) > 0 && len(data) != len(infos) {
		return page, errReply
	}
	if len(data) > 0 {
		page.Entries = make([]parley.Entry, len(data))
	}
	for i := range data {
		var info string
		text := p.text(data[i])
		if len(infos) > 0 {
			info = p.text(infos[i])
		} else {
			info, text, _ = strings.Cut(text, "\n")
		}
		page.Entries[i] = p.entry(from+int64(i), now, text, info)
	}
	for i := range marks {
		info := p.info(p.text(marks[i]))
		if info.expires > 0 && info.expires <= now {
			continue
		}
		switch offset := page.First + int64(i); info.state {
		case "r":
			page.Read = extend(page.Read, offset)
		case "a":
			page.Archived = extend(page.Archived, offset)
		}
	}
	return page, p.err
}

// entry makes an Entry of its data and what is known of it.
func (p *parser) entry(offset, now int64, data, text string) parley.Entry {
	info := p.info(text)
	e := parley.Entry{Offset: offset, Time: info.time}
	if info.expires == 0 || info.expires > now {
		e.Data = []byte(data)
	}
	return e
}

// entryInfo is what is known of an entry; see lua/log.lua.
type entryInfo struct {
	time, expires int64
	state         string
}

func (p *parser) info(text string) (info entryInfo) {
	_, rest, ok := strings.Cut(text, " ")
	if !ok {
		p.err = errReply
		return info
	}
	number, rest, marked := strings.Cut(rest, " ")
	info.time = p.number(number)
	if !marked {
		return info
	}
	info.state, rest, _ = strings.Cut(rest, " ")
	expires, _, _ := strings.Cut(rest, " ")
	n, err := strconv.ParseInt(expires, 10, 64)
	if err != nil {
		p.err = errReply
	}
	info.expires = n
	return info
}

// extend adds an offset that comes after all that are in spans.
func extend(spans []parley.Span, offset int64) []parley.Span {
	if n := len(spans); n > 0 && spans[n-1].To == offset-1 {
		spans[n-1].To = offset
		return spans
	}
	return append(spans, parley.Span{From: offset, To: offset})
}
