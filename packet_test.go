package parley

import (
	"encoding/json"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// Packets survive their encoding.
func TestPacketEncoding(t *testing.T) {
	full := packet{Version: packetVersion, Node: "n\"1", Presence: true, Gone: true, Probe: 7,
		Ask:    &ask{ID: "i", Node: "n", Op: opAdd, User: "u", Room: "r", Reason: "<b>", Data: []byte(`{"a":1}`)},
		Answer: &askAnswer{ID: "i", Count: 3, Error: "e", Data: []byte(`[1]`)},
		Messages: []packetMessage{
			{Epoch: "e\n1", Offset: 5, V1: true, Key: "k\x00", Unread: 2, Version: 9, Marks: 4, News: true, Of: "e\n1", Data: []byte(`{"x":"<>"}`)},
			{Data: []byte(`{}`)},
		}}
	got, err := decodePacket(full.encode())
	require.NoError(t, err)
	require.Equal(t, full, got)
	want, err := json.Marshal(full)
	require.NoError(t, err)
	require.JSONEq(t, string(want), string(full.encode()))

	placed, err := decodePacket([]byte("3 12 7,0,8 ep och\n" + `{"v":1,"node":"n","messages":[{"data":{"n":1}},{"data":{"n":2}},{"data":{"n":3}}]}`))
	require.NoError(t, err)
	require.Equal(t, []packetMessage{
		{Epoch: "ep och", Offset: 7, Unread: 3, Version: 12, Marks: 5, Data: []byte(`{"n":1}`)},
		{Epoch: "ep och", Offset: 8, Unread: 3, Version: 12, Marks: 5, Data: []byte(`{"n":3}`)},
	}, placed.Messages)
	for _, bad := range []string{
		"", "\n", "x", "1 2 3 e", "1 2 3\n{}", "a 2 3 e\n{}", "1 b 3 e\n{}", "1 2 c e\n{}", "1 2 -3 e\n{}", "1 2 3 \n{}",
		"1 2 3,4 e\n" + `{"v":1,"messages":[{"data":{}}]}`, "1 2 3 e\n{\"v\":1}", "99999999999999999999 2 3 e\n{}",
	} {
		_, err := decodePacket([]byte(bad))
		require.Error(t, err, "%q", bad)
	}
}

func FuzzDecodePacket(f *testing.F) {
	f.Add([]byte(`{"v":1,"node":"n","messages":[{"epoch":"e","offset":1,"data":{}}]}`))
	f.Add([]byte("3 12 7,0 e\n" + `{"v":1,"node":"n","messages":[{"data":{}},{"data":{}}]}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		if p, ok := scanPacket(payload); ok && utf8.Valid(payload) {
			var want packet
			if json.Unmarshal(payload, &want) == nil { // else it is deeper than that can read, or has a number that is too large
				require.Equal(t, want, p)
			}
		}
		p, err := decodePacket(payload)
		if err != nil {
			return
		}
		for _, m := range p.Messages {
			if m.check() != nil {
				return
			}
		}
		again, err := decodePacket(p.encode())
		require.NoError(t, err)
		require.Len(t, again.Messages, len(p.Messages))
	})
}
