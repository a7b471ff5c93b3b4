package redisstore

import (
	"strconv"
	"strings"
)

// Every key is <Prefix>:{<tag>}:<part>. Only what is between the braces decides
// about the slot in a Cluster, so all keys of a topic, a user or an audience lie together,
// and different ones are spread. Tags begin with a kind, and the rest is encoded so that it
// holds no brace and nothing that a terminal or a shell minds.
const (
	kindTopic    = "t/"
	kindUser     = "u/"
	kindAudience = "a/"
	kindOverdue  = "overdue/"
)

// encode makes a tag of a name: letters, digits and _-.:/@+=,~ stay, any other byte is
// % and two hexadecimal digits. Different names have different tags.
func encode(name string) string {
	plain := true
	for i := 0; i < len(name) && plain; i++ {
		plain = isPlain(name[i])
	}
	if plain {
		return name
	}
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	b.Grow(len(name) + 16)
	for i := range len(name) {
		if c := name[i]; isPlain(c) {
			b.WriteByte(c)
		} else {
			b.WriteByte('%')
			b.WriteByte(digits[c>>4])
			b.WriteByte(digits[c&15])
		}
	}
	return b.String()
}

func isPlain(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	return strings.IndexByte("_-.:/@+=,~", c) >= 0
}

// tag returns what a topic has between braces, without them. It is never empty.
func (s *Store) tag(topic string) string { return kindTopic + encode(topic) }

// base returns what all keys of a tag begin with.
func (s *Store) base(tag string) string { return s.opts.Prefix + ":{" + tag + "}:" }

// overdueShards is how many parts the index of what may be overdue has: so many nodes of a Cluster can share it.
const overdueShards = 16

// overdueTag returns the tag of the part of the index that a topic is in.
func overdueTag(shard int) string { return kindOverdue + strconv.Itoa(shard) }

func overdueShard(topic string) int { return slot(topic) % overdueShards }

// slot returns the hash slot of a tag, as Redis Cluster computes it: CRC16 (XMODEM) modulo 16384.
func slot(tag string) int { return int(checksum(0, tag)) % slots }

// topicSlot returns the slot of the tag of a topic.
func topicSlot(topic string) int { return int(checksum(checksum(0, kindTopic), encode(topic))) % slots }

// checksum goes on with a CRC16.
func checksum(crc uint16, text string) uint16 {
	for i := range len(text) {
		crc = crc<<8 ^ crcTable[byte(crc>>8)^text[i]]
	}
	return crc
}

const slots = 16384

var crcTable = func() (table [256]uint16) {
	for i := range table {
		crc := uint16(i) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
		table[i] = crc
	}
	return table
}()
