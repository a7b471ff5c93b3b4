package parley

import (
	"bytes"
	"encoding/binary"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// RFC 6455, section 5.2: the length takes 7, 7+16 or 7+64 bits, and the
// shortest form is the only one allowed.
func TestFrameHeader(t *testing.T) {
	for _, tt := range []struct {
		payload int
		head    []byte
	}{
		{0, []byte{0x81, 0}},
		{1, []byte{0x81, 1}},
		{125, []byte{0x81, 125}},
		{126, []byte{0x81, 126, 0, 126}},
		{127, []byte{0x81, 126, 0, 127}},
		{65535, []byte{0x81, 126, 0xff, 0xff}},
		{65536, []byte{0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0}},
		{1 << 20, []byte{0x81, 127, 0, 0, 0, 0, 0, 16, 0, 0}},
	} {
		payload := bytes.Repeat([]byte{'x'}, tt.payload)
		f := newFrame(append(newBuffer(tt.payload), payload...))
		require.Equal(t, len(tt.head), f.head, "payload of %d", tt.payload)
		require.Equal(t, tt.head, f.wire[:f.head])
		require.True(t, bytes.Equal(payload, f.wire[f.head:]))
	}
}

// A payload that outgrows the buffer it was begun with makes the same frame.
func TestFrameFromABufferThatGrew(t *testing.T) {
	payload := bytes.Repeat([]byte("abc"), 1000)
	exact := newFrame(append(newBuffer(len(payload)), payload...))
	grown := newFrame(append(newBuffer(1), payload...))
	require.Equal(t, exact.wire, grown.wire)
}

func TestControlFrame(t *testing.T) {
	f := controlFrame(opPing, []byte("abc"))
	require.Equal(t, []byte{0x89, 3, 'a', 'b', 'c'}, f.wire)
	require.Equal(t, f.wire, f.bytes(true), "control frames are never compressed")
}

// The reason has at most 123 bytes and must be UTF-8: it is cut between runes.
func TestCloseFrame(t *testing.T) {
	for _, tt := range []struct{ reason, want string }{
		{"", ""},
		{"bye", "bye"},
		{strings.Repeat("x", 123), strings.Repeat("x", 123)},
		{strings.Repeat("x", 124), strings.Repeat("x", 123)},
		{strings.Repeat("x", 122) + "é", strings.Repeat("x", 122)},
		{strings.Repeat("x", 121) + "é", strings.Repeat("x", 121) + "é"},
		{strings.Repeat("x", 121) + "日本", strings.Repeat("x", 121)},
		{strings.Repeat("x", 120) + "日本", strings.Repeat("x", 120) + "日"},
		{strings.Repeat("😀", 40), strings.Repeat("😀", 30)},
	} {
		f := closeFrame(CloseSlow, tt.reason)
		op, payload, rest := cutFrame(f.wire)
		require.EqualValues(t, opClose, op)
		require.Empty(t, rest)
		require.LessOrEqual(t, len(payload), 125)
		require.EqualValues(t, CloseSlow, binary.BigEndian.Uint16(payload))
		require.Equal(t, tt.want, string(payload[2:]))
		require.True(t, utf8.Valid(payload[2:]))
	}
}

func TestFrameCompression(t *testing.T) {
	for _, n := range []int{deflateMin, 1000, 40_000, 70_000} {
		payload := bytes.Repeat([]byte("parley "), n/7+1)[:n]
		f := newFrame(append(newBuffer(n), payload...))
		require.Equal(t, f.wire, f.bytes(false))
		packed := f.bytes(true)
		require.Less(t, len(packed), len(f.wire))
		require.EqualValues(t, bitFin|bitRsv1|opText, packed[0])
		op, body, rest := cutFrame(packed)
		require.EqualValues(t, opText, op)
		require.Empty(t, rest)
		require.Equal(t, string(payload), inflate(t, body))
	}
}

// The compressed form is made once, whoever asks first, and shared.
func TestFrameIsCompressedOnceByManyAtATime(t *testing.T) {
	f := newFrame(append(newBuffer(0), bytes.Repeat([]byte{'x'}, 4096)...))
	var forms [8]*byte
	var wg sync.WaitGroup
	for i := range forms {
		wg.Go(func() { forms[i] = &f.bytes(true)[0] })
	}
	wg.Wait()
	for _, p := range forms {
		require.Same(t, forms[0], p)
	}
}
