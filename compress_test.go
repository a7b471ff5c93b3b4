package parley

import (
	"bytes"
	"compress/flate"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const deflateOffer = "permessage-deflate; client_max_window_bits"

// inflate undoes permessage-deflate without context takeover.
func inflate(t *testing.T, p []byte) string {
	t.Helper()
	// RFC 7692, section 7.2.2; the final empty block ends the stream.
	tail := "\x00\x00\xff\xff\x01\x00\x00\xff\xff"
	text, err := io.ReadAll(flate.NewReader(io.MultiReader(bytes.NewReader(p), strings.NewReader(tail))))
	require.NoError(t, err)
	return string(text)
}

func deflate(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestSpeed)
	require.NoError(t, err)
	_, err = io.WriteString(w, text)
	require.NoError(t, err)
	require.NoError(t, w.Flush())
	return strings.TrimSuffix(b.String(), "\x00\x00\xff\xff")
}

func TestCompressionNegotiation(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const answer = "permessage-deflate; client_no_context_takeover; server_no_context_takeover"
		on, off := serve(t, Options{Compression: true}), serve(t, Options{})
		for offer, want := range map[string]string{
			"":                     "",
			"permessage-deflate":   answer,
			deflateOffer:           answer,
			"x-webkit-deflate":     "",
			"permessage-bzip2":     "",
			"foo, " + deflateOffer: answer,
			"permessage-deflate; server_no_context_takeover; client_no_context_takeover": answer,
			// A window that we cannot make smaller: the offer is declined (RFC 7692, section 7.1.2.1).
			"permessage-deflate; server_max_window_bits=10": "",
		} {
			for s, want := range map[*server]string{on: want, off: ""} {
				resp, conn, _ := s.exchange(request("Sec-WebSocket-Extensions", offer))
				require.Equal(t, want, resp.Header.Get("Sec-WebSocket-Extensions"), offer)
				require.NoError(t, conn.Close())
			}
		}
	})
}

// The same broadcast goes compressed to those who negotiated it and plain to
// the others, with the same content.
func TestCompressedAndPlainClientsGetTheSame(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, Options{Compression: true})
		packed, plain := s.raw("Sec-WebSocket-Extensions", deflateOffer), s.raw()
		library := s.connect(dialOptions{compress: true})
		large := strings.Repeat("all work and no play ", 500)
		_, err := s.Broadcast(t.Context(), large)
		require.NoError(t, err)

		f := packed.frame()
		require.EqualValues(t, bitFin|bitRsv1|opText, f.first)
		require.Less(t, len(f.payload), len(large)/10)
		g := plain.frame()
		require.EqualValues(t, bitFin|opText, g.first)
		require.Equal(t, string(g.payload), inflate(t, f.payload))
		require.Equal(t, large, library.expect("broadcast").str("message"))

		// Below the limit compression does not pay.
		_, err = s.Broadcast(t.Context(), "short")
		require.NoError(t, err)
		require.EqualValues(t, bitFin|opText, packed.frame().first)
		require.Equal(t, "short", library.expect("broadcast").str("message"))

		// Nor does it for what cannot be compressed.
		noise := make([]byte, 4096)
		_, _ = rand.Read(noise)
		text := base64.StdEncoding.EncodeToString(noise)
		_, err = s.Broadcast(t.Context(), text)
		require.NoError(t, err)
		var m message
		if f = packed.frame(); f.first == bitFin|bitRsv1|opText {
			require.NoError(t, json.Unmarshal([]byte(inflate(t, f.payload)), &m))
		} else {
			require.NoError(t, json.Unmarshal(f.payload, &m))
		}
		require.Equal(t, text, m.str("message"))
		require.Equal(t, text, library.expect("broadcast").str("message"))
	})
}

func TestFrameIsCompressedOnce(t *testing.T) {
	f := newFrame(append(newBuffer(0), strings.Repeat("x", 10_000)...))
	first, second := f.bytes(true), f.bytes(true)
	require.Same(t, &first[0], &second[0])
	require.Less(t, len(first), 200)
	require.Len(t, f.bytes(false), 10_004)

	short := newFrame(append(newBuffer(0), strings.Repeat("x", deflateMin-1)...))
	require.Same(t, &short.wire[0], &short.bytes(true)[0])
	ping := controlFrame(opPing, nil)
	require.Same(t, &ping.wire[0], &ping.bytes(true)[0])
	noise := make([]byte, 4096)
	_, _ = rand.Read(noise)
	random := newFrame(append(newBuffer(0), noise...))
	require.Same(t, &random.wire[0], &random.bytes(true)[0], "longer when compressed")
}

// Compressed messages of clients are read, and the size limit is that of the
// message, not of what travels (S19).
func TestCompressedMessagesOfClients(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, Options{Compression: true, MaxMessageSize: 10_000})
		unharmed := s.bystanders()
		sender := s.connect(dialOptions{compress: true})
		for _, n := range []int{1, 511, 512, 600, 9_000} {
			text := strings.Repeat("a", n)
			sender.send(map[string]any{"type": "private", "targetId": sender.id, "message": text})
			require.Equal(t, text, sender.expect("private").str("message"))
		}

		bomb := s.raw("Sec-WebSocket-Extensions", deflateOffer)
		packed := deflate(t, `{"type":"ping","data":"`+strings.Repeat("0", 20<<20)+`"}`)
		require.Less(t, len(packed), 200_000)
		bomb.write(rawBytes(bitFin|bitRsv1|opText, packed))
		bomb.expectError(CodeTooLarge)
		bomb.expectClosed(CloseTooLarge)
		unharmed()
	})
}

// Without the extension, and on anything but the first frame of a message,
// the compression bit is a protocol error.
func TestCompressionBitOutOfPlace(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, Options{Compression: true})
		unharmed := s.bystanders()
		for _, frames := range [][]byte{
			rawBytes(bitFin|bitRsv1|opPing, ""),
			append(rawBytes(bitRsv1|opText, "x"), rawBytes(bitFin|bitRsv1|opContinuation, "x")...),
			rawBytes(bitFin|bitRsv1|opText, "this is no deflate stream"),
		} {
			c := s.raw("Sec-WebSocket-Extensions", deflateOffer)
			c.write(frames)
			c.expectClosed(CloseProtocol)
		}
		c := s.raw()
		c.write(rawBytes(bitFin|bitRsv1|opText, deflate(t, `{"type":"ping"}`)))
		c.expectClosed(CloseProtocol)
		unharmed()
	})
}
