package natsstore

import (
	"fmt"
	"strings"
)

// maxTopic is what parley allows a topic. Its subject is three times as long at most; a line of the protocol of NATS has 4096 bytes.
const maxTopic = 300

// subject returns the subject of a topic: the prefix and one token, in which letters, digits, -, _ and /
// stand for themselves and all other bytes are written %XX, so that different topics have different subjects, and
// none has a wildcard.
func subject(prefix, topic string) (string, error) {
	if len(topic) > maxTopic {
		return "", fmt.Errorf("natsstore: a topic of %d bytes; at most %d are allowed", len(topic), maxTopic)
	}
	var s strings.Builder
	s.Grow(len(prefix) + 1 + len(topic))
	s.WriteString(prefix)
	s.WriteByte('.')
	if topic == "" {
		s.WriteByte('%') // a token must not be empty; no other topic gives this one
	}
	const hex = "0123456789ABCDEF"
	for i := range len(topic) {
		c := topic[i]
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_' || c == '/' {
			s.WriteByte(c)
		} else {
			s.Write([]byte{'%', hex[c>>4], hex[c&15]})
		}
	}
	return s.String(), nil
}
