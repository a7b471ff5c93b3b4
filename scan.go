package parley

import (
	"encoding/binary"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth is how many objects and arrays may be nested; the message itself
// is the first level (P2.1).
const maxDepth = 32

// scanner walks over JSON text by the grammar of RFC 8259, without allocating
// and without building values. Its methods report false at the first
// violation, and pos is then its place. A method that reads a value starts at
// its first byte and ends behind its last one.
type scanner struct {
	data []byte
	pos  int
	// tooDeep is set when something below maxDepth was skipped unchecked.
	tooDeep bool
}

// text is a JSON string between its quotes, as written.
type text struct {
	body    []byte
	escaped bool // body holds at least one escape sequence
}

// peek returns the byte at pos, and 0 at the end: a NUL is allowed nowhere
// in JSON, so the two need not be told apart.
func (s *scanner) peek() byte {
	if s.pos < len(s.data) {
		return s.data[s.pos]
	}
	return 0
}

// space moves past white space.
func (s *scanner) space() {
	for s.pos < len(s.data) {
		switch s.data[s.pos] {
		case ' ', '\t', '\n', '\r':
			s.pos++
		default:
			return
		}
	}
}

// value reads any value. level is the nesting level of the object or array
// that the value is in.
func (s *scanner) value(level int) bool {
	switch c := s.peek(); {
	case c == '"':
		_, ok := s.str()
		return ok
	case c == '{' || c == '[':
		if level >= maxDepth {
			return s.skipDeep()
		}
		if c == '{' {
			return s.object(level + 1)
		}
		return s.array(level + 1)
	case c == '-' || isDigit(c):
		return s.number()
	case c == 't':
		return s.literal("true")
	case c == 'f':
		return s.literal("false")
	case c == 'n':
		return s.literal("null")
	}
	return false
}

// object reads an object that is itself of the given level.
func (s *scanner) object(level int) bool {
	s.pos++
	for first := true; ; first = false {
		_, more, ok := s.member(first)
		if !ok || !more {
			return ok
		}
		if !s.value(level) {
			return false
		}
	}
}

// member reads an object up to its next value: what separates it from the
// one before, the key and the colon. At the end of the object more is false.
func (s *scanner) member(first bool) (key text, more, ok bool) {
	s.space()
	if s.peek() == '}' {
		s.pos++
		return text{}, false, true
	}
	if !first {
		if s.peek() != ',' {
			return text{}, false, false
		}
		s.pos++
		s.space()
	}
	if s.peek() != '"' {
		return text{}, false, false
	}
	if key, ok = s.str(); !ok {
		return text{}, false, false
	}
	s.space()
	if s.peek() != ':' {
		return text{}, false, false
	}
	s.pos++
	s.space()
	return key, true, true
}

// array reads an array that is itself of the given level.
func (s *scanner) array(level int) bool {
	s.pos++
	s.space()
	if s.peek() == ']' {
		s.pos++
		return true
	}
	for {
		if !s.value(level) {
			return false
		}
		s.space()
		switch s.peek() {
		case ']':
			s.pos++
			return true
		case ',':
			s.pos++
			s.space()
		default:
			return false
		}
	}
}

// skipDeep moves past an object or array that is nested too deep. The message
// is refused anyway, so brackets are only counted: that needs neither stack
// nor memory, and what follows, perhaps the id that the refusal has to carry,
// can still be read.
func (s *scanner) skipDeep() bool {
	s.tooDeep = true
	for open := 0; s.pos < len(s.data); {
		switch s.data[s.pos] {
		case '{', '[':
			open++
		case '}', ']':
			open--
			if open == 0 {
				s.pos++
				return true
			}
		case '"':
			if _, ok := s.str(); !ok {
				return false
			}
			continue
		}
		s.pos++
	}
	return false
}

// literal reads one of the three names.
func (s *scanner) literal(word string) bool {
	if len(s.data)-s.pos < len(word) || string(s.data[s.pos:s.pos+len(word)]) != word {
		return false
	}
	s.pos += len(word)
	return true
}

// number reads a number.
func (s *scanner) number() bool {
	if s.peek() == '-' {
		s.pos++
	}
	if s.peek() == '0' {
		s.pos++ // no digit may follow; the caller refuses it as what comes next
	} else if !s.digits() {
		return false
	}
	if s.peek() == '.' {
		s.pos++
		if !s.digits() {
			return false
		}
	}
	if c := s.peek(); c == 'e' || c == 'E' {
		s.pos++
		if c := s.peek(); c == '+' || c == '-' {
			s.pos++
		}
		return s.digits()
	}
	return true
}

// digits reads one digit or more.
func (s *scanner) digits() bool {
	start := s.pos
	for isDigit(s.peek()) {
		s.pos++
	}
	return s.pos > start
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// str reads a string. Like RFC 8259 it lets escaped halves of surrogate pairs
// stand alone; unquote tells them. UTF-8 was checked for the whole message.
func (s *scanner) str() (t text, ok bool) {
	s.pos++
	start := s.pos
	for {
		s.plain()
		switch s.peek() {
		case '"':
			t.body = s.data[start:s.pos]
			s.pos++
			return t, true
		case '\\':
			t.escaped = true
			if !s.escape() {
				return text{}, false
			}
		default: // a control character, or the end of the data
			return text{}, false
		}
	}
}

// plain moves to the next byte that means something inside a string: a quote,
// a backslash or a control character. It takes eight bytes at a time, because
// most bytes of most messages are text.
func (s *scanner) plain() {
	const (
		ones  = 0x0101010101010101
		highs = 0x8080808080808080
	)
	for len(s.data)-s.pos >= 8 {
		w := binary.LittleEndian.Uint64(s.data[s.pos:])
		quote, slash := w^(ones*'"'), w^(ones*'\\')
		// Each term has a high bit set if and only if some byte of w is below
		// a space, a quote or a backslash (a zero byte after the xor).
		if ((w-ones*' ')&^w|(quote-ones)&^quote|(slash-ones)&^slash)&highs != 0 {
			break
		}
		s.pos += 8
	}
	for s.pos < len(s.data) {
		if c := s.data[s.pos]; c == '"' || c == '\\' || c < ' ' {
			return
		}
		s.pos++
	}
}

// escape reads an escape sequence.
func (s *scanner) escape() bool {
	s.pos++
	switch s.peek() {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		s.pos++
		return true
	case 'u':
		if _, ok := hex4(s.data[s.pos+1:]); !ok {
			return false
		}
		s.pos += 5
		return true
	}
	return false
}

// hex4 reads the four digits of a \u escape.
func hex4(p []byte) (r rune, ok bool) {
	if len(p) < 4 {
		return 0, false
	}
	for _, c := range p[:4] {
		switch {
		case isDigit(c):
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// unquote appends what t stands for to dst. It reports false if t holds half
// of a surrogate pair, which is no character and has no UTF-8 form; dst then
// has U+FFFD in its place. The scanner has checked the grammar before.
func (t text) unquote(dst []byte) (out []byte, ok bool) {
	ok = true
	p := t.body
	for i := 0; i < len(p); i++ {
		if p[i] != '\\' {
			dst = append(dst, p[i])
			continue
		}
		i++
		switch p[i] {
		case 'b':
			dst = append(dst, '\b')
		case 'f':
			dst = append(dst, '\f')
		case 'n':
			dst = append(dst, '\n')
		case 'r':
			dst = append(dst, '\r')
		case 't':
			dst = append(dst, '\t')
		case 'u':
			r, n, whole := unicodeEscape(p[i+1:])
			ok = ok && whole
			dst = utf8.AppendRune(dst, r)
			i += n
		default: // a quote, a backslash or a slash
			dst = append(dst, p[i])
		}
	}
	return dst, ok
}

// unicodeEscape reads what follows a \u: four digits, and, if they are the
// first half of a surrogate pair, the escape of the second one. It returns
// the character and how many bytes it took.
func unicodeEscape(p []byte) (r rune, n int, ok bool) {
	r, _ = hex4(p)
	if !utf16.IsSurrogate(r) {
		return r, 4, true
	}
	if len(p) >= 10 && p[4] == '\\' && p[5] == 'u' {
		low, _ := hex4(p[6:])
		if pair := utf16.DecodeRune(r, low); pair != utf8.RuneError {
			return pair, 10, true
		}
	}
	return utf8.RuneError, 4, false
}
