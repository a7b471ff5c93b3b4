package parley

// scanPacket reads a packet that carries messages, as nearly all do, without reflection: nodes spend much of their time on it.
// It reports false for whatever else there may be in a packet, which encoding/json reads.
func scanPacket(body []byte) (p packet, ok bool) {
	s := scanner{data: body}
	ok = s.fields(func(key []byte) (ok bool) {
		switch string(key) {
		case "v":
			var version int64
			version, ok = s.plainInt()
			p.Version = int(version)
		case "node":
			p.Node, ok = s.plainString()
		case "messages":
			p.Messages, ok = s.packetMessages()
		}
		return ok
	})
	return p, ok && s.pos == len(body)
}

func (s *scanner) packetMessages() (all []packetMessage, ok bool) {
	if s.peek() != '[' {
		return nil, false
	}
	for {
		s.pos++
		m, ok := s.packetMessage()
		if !ok {
			return nil, false
		}
		all = append(all, m)
		switch s.peek() {
		case ',':
		case ']':
			s.pos++
			return all, true
		default:
			return nil, false
		}
	}
}

func (s *scanner) packetMessage() (m packetMessage, ok bool) {
	ok = s.fields(func(key []byte) (ok bool) {
		var n int64
		switch string(key) {
		case "epoch":
			m.Epoch, ok = s.plainString()
		case "offset":
			m.Offset, ok = s.plainInt()
		case "unread":
			n, ok = s.plainInt()
			m.Unread = int(n)
		case "version":
			m.Version, ok = s.plainInt()
		case "marks":
			m.Marks, ok = s.plainInt()
		case "of":
			m.Of, ok = s.plainString()
		case "v1":
			m.V1, ok = true, s.literal("true")
		case "news":
			m.News, ok = true, s.literal("true")
		case "data":
			start := s.pos
			ok = s.value(1)
			m.Data = s.data[start:s.pos:s.pos]
		}
		return ok
	})
	return m, ok
}

// fields reads an object whose keys and their values f knows; f reports whether it does.
func (s *scanner) fields(f func(key []byte) bool) bool {
	if s.peek() != '{' {
		return false
	}
	s.pos++
	for first := true; ; first = false {
		key, more, ok := s.member(first)
		if !ok || key.escaped {
			return false
		}
		if !more {
			return true
		}
		if !f(key.body) {
			return false
		}
	}
}

// plainString reads a string without escapes.
func (s *scanner) plainString() (string, bool) {
	if s.peek() != '"' {
		return "", false
	}
	t, ok := s.str()
	return string(t.body), ok && !t.escaped
}

func (s *scanner) plainInt() (int64, bool) {
	start := s.pos
	if !s.number() {
		return 0, false
	}
	return parseInteger(s.data[start:s.pos])
}
