package redisstore

import (
	"errors"
	"strconv"
)

var errReply = errors.New("redisstore: Redis answered something unexpected: is there a proxy in between that changes scripts?")

// parser takes apart what scripts return. Its first error stays.
type parser struct{ err error }

func (p *parser) list(v any) []any {
	list, ok := v.([]any)
	if !ok {
		p.err = errReply
	}
	return list
}

func (p *parser) text(v any) string {
	s, ok := v.(string)
	if !ok {
		p.err = errReply
	}
	return s
}

// number takes a number, also in the form of text. What is not there is 0.
func (p *parser) number(v any) int64 {
	switch v := v.(type) {
	case nil:
		return 0
	case int64:
		return v
	case string:
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			// Scores may come in another form.
			f, err := strconv.ParseFloat(v, 64)
			if err != nil {
				p.err = errReply
			}
			return int64(f)
		}
		return n
	}
	p.err = errReply
	return 0
}
