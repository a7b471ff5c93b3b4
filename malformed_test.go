package parley

import (
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// S17, S30, F50, F52, F53, F56: streams that break the WebSocket protocol or
// P1.1 end with the right code, and nobody else notices.
func TestMalformedStreams(t *testing.T) {
	const ping = `{"type":"ping"}`
	unmasked := append([]byte{bitFin | opText, byte(len(ping))}, ping...)
	for _, tc := range []struct {
		name     string
		sent     []byte
		code     CloseCode
		protocol bool // counted as a stream that is no WebSocket
	}{
		{"unmasked frame", unmasked, CloseProtocol, true},
		{"unmasked ping", []byte{bitFin | opPing, 0}, CloseProtocol, true},
		{"RSV1", rawBytes(bitFin|bitRsv1|opText, ping), CloseProtocol, true},
		{"RSV2", rawBytes(bitFin|0x20|opText, ping), CloseProtocol, true},
		{"RSV3", rawBytes(bitFin|0x10|opText, ping), CloseProtocol, true},
		{"opcode 3", rawBytes(bitFin|0x3, ping), CloseProtocol, true},
		{"opcode 7", rawBytes(bitFin|0x7, ""), CloseProtocol, true},
		{"opcode 11", rawBytes(bitFin|0xb, ""), CloseProtocol, true},
		{"opcode 15", rawBytes(bitFin|0xf, ""), CloseProtocol, true},
		{"fragmented ping", rawBytes(opPing, ""), CloseProtocol, true},
		{"fragmented close", rawBytes(opClose, ""), CloseProtocol, true},
		{"long ping", rawBytes(bitFin|opPing, strings.Repeat("x", 126)), CloseProtocol, true},
		{"ping that claims 2^63-1 bytes", rawHead(bitFin|opPing, math.MaxInt64), CloseProtocol, true},
		{"continuation of nothing", rawBytes(bitFin|opContinuation, ping), CloseProtocol, true},
		{"continuation after the end", append(rawText(ping), rawBytes(bitFin|opContinuation, "")...), CloseProtocol, true},
		{"text within a text", append(rawBytes(opText, ping[:3]), rawText(ping)...), CloseProtocol, true},
		{"binary within a text", append(rawBytes(opText, ping[:3]), rawBytes(bitFin|opBinary, "x")...), CloseProtocol, true},
		{"negative length", rawHead(bitFin|opText, 1<<63), CloseProtocol, true},
		{"all bits", []byte(strings.Repeat("\xff", 100)), CloseProtocol, true},
		{"HTTP", []byte(request()), CloseProtocol, true},

		{"close with one byte", rawBytes(bitFin|opClose, "\x03"), CloseProtocol, true},
		{"close 1005", rawClose(1005, ""), CloseProtocol, true},
		{"close 1006", rawClose(CloseAbnormal, ""), CloseProtocol, true},
		{"close 1015", rawClose(1015, ""), CloseProtocol, true},
		{"close 999", rawClose(999, ""), CloseProtocol, true},
		{"close 2999", rawClose(2999, ""), CloseProtocol, true},
		{"close 5000", rawClose(5000, ""), CloseProtocol, true},
		{"close with bad text", rawClose(CloseNormal, "\xc3\x28"), CloseInvalidUTF8, false}, // S30

		{"binary", rawBytes(bitFin|opBinary, ping), CloseBinary, false},
		{"empty binary", rawBytes(bitFin|opBinary, ""), CloseBinary, false},
		{"fragmented binary", append(rawBytes(opBinary, ping), rawBytes(bitFin|opContinuation, "")...), CloseBinary, false},
		{"bad UTF-8", rawText("{\"type\":\"ping\",\"id\":\"\xff\"}"), CloseInvalidUTF8, false},
		{"overlong UTF-8", rawText("{\"type\":\"ping\",\"id\":\"\xc0\xaf\"}"), CloseInvalidUTF8, false},
		{"surrogate in UTF-8", rawText("\xed\xa0\x80"), CloseInvalidUTF8, false},
		{"cut UTF-8", rawText("{\"type\":\"ping\"}\xe2\x82"), CloseInvalidUTF8, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				ends := make(chan CloseCode, 10)
				s := serve(t, Options{Hooks: Hooks{Disconnect: func(_ *Conn, code CloseCode) { ends <- code }}})
				unharmed := s.bystanders()
				c := s.raw()
				c.write(tc.sent)
				code, reason := c.closeFrame()
				require.Equal(t, tc.code, code, reason)
				require.NotContains(t, reason, "ping", "the reason quotes what was sent")
				c.expectEnd()
				synctest.Wait()
				require.Len(t, ends, 1)
				stats := s.Stats()
				if tc.protocol {
					require.EqualValues(t, 1, stats.ProtocolViolations)
				} else {
					require.Zero(t, stats.ProtocolViolations)
				}
				require.Equal(t, 2, stats.Connections)
				unharmed()
			})
		})
	}
}

// F50, S17: a length that is only declared costs nothing, and is refused as
// soon as more than the limit has come.
func TestGiantDeclaredLength(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, Options{MaxMessageSize: 1000})
		unharmed := s.bystanders()
		for _, length := range []uint64{1 << 31, 1 << 32, math.MaxInt64} {
			c := s.raw()
			c.write(rawHead(bitFin|opText, length))
			c.write([]byte(strings.Repeat("x", 1001)))
			c.expectError(CodeTooLarge)
			c.expectClosed(CloseTooLarge)

			// Nothing more comes: the assembly timeout ends it.
			c = s.raw()
			c.write(rawHead(bitFin|opText, length))
			start := time.Now()
			c.expectClosed(CloseIncomplete)
			require.LessOrEqual(t, time.Since(start), s.opts.AssemblyTimeout+s.opts.CloseTimeout)
		}
		unharmed()
	})
}

// A message may come in any number of frames and with control frames in between.
func TestFragmentedMessages(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, Options{})
		c := s.raw()
		text := `{"type":"ping","id":"é"}`
		c.write(rawBytes(opText, text[:1]))
		for i := 1; i < len(text)-1; i++ { // cuts a character in two
			c.write(rawBytes(opContinuation, text[i:i+1]))
			c.write(rawBytes(opContinuation, ""))
		}
		c.write(rawBytes(bitFin|opPing, "between"))
		c.write(rawBytes(bitFin|opContinuation, text[len(text)-1:]))
		require.Equal(t, "between", string(c.frame().payload))
		require.Equal(t, "é", c.expect("pong").str("id"))

		for b := range strings.SplitSeq(string(rawText(text)), "") {
			c.write([]byte(b))
		}
		require.Equal(t, "é", c.expect("pong").str("id"))
	})
}

func xor(text, key string) []byte {
	masked := []byte(text)
	for i := range masked {
		masked[i] ^= key[i%len(key)]
	}
	return masked
}

// S18, F51: a message has to be complete in time, whatever its frames look like.
func TestAssemblyTimeout(t *testing.T) {
	deflate := []string{"Sec-WebSocket-Extensions", deflateOffer}
	for _, tc := range []struct {
		name    string
		headers []string
		start   []byte
		more    []byte
		every   time.Duration
		times   int // of more, each time
	}{
		{"a byte a second", nil, rawHead(bitFin|opText, 1000), []byte("x"), time.Second, 1},
		{"a fragment a second", nil, rawBytes(opText, "x"), rawBytes(opContinuation, "x"), time.Second, 1},
		{"empty fragments", nil, rawBytes(opText, ""), rawBytes(opContinuation, ""), 100 * time.Millisecond, 300},
		{"pings in between", nil, rawBytes(opText, "x"), rawBytes(bitFin|opPing, ""), time.Second, 1},
		{"nothing", nil, rawBytes(opText, "x"), nil, time.Second, 1},
		// S19: stored blocks of no bytes: input without output.
		{"empty deflate blocks", deflate, rawHead(bitFin|bitRsv1|opText, 1<<40),
			[]byte("\x00\x00\x00\xff\xff"), 100 * time.Millisecond, 300},
		{"masked empty deflate blocks", deflate, append(rawHead(bitFin|bitRsv1|opText, 1<<40)[:10], "mask"...),
			xor(strings.Repeat("\x00\x00\x00\xff\xff", 4), "mask"), 100 * time.Millisecond, 75},
		{"frames of empty deflate blocks", deflate, rawBytes(bitRsv1|opText, "\x00\x00\x00\xff\xff"),
			rawBytes(opContinuation, "\x00\x00\x00\xff\xff"), 100 * time.Millisecond, 100},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s := serve(t, Options{Compression: tc.headers != nil})
				unharmed := s.bystanders()
				c := s.raw(tc.headers...)
				time.Sleep(time.Hour) // however late the message starts
				c.pong.Store(false)   // it would come in the middle of a frame
				start := time.Now()
				c.write(tc.start)
				for time.Since(start) < 30*time.Second {
					time.Sleep(tc.every)
					for range tc.times {
						c.write(tc.more)
					}
					synctest.Wait()
					if s.Conn(c.id) == nil {
						break
					}
				}
				code, reason := c.closeFrame()
				require.Equal(t, CloseIncomplete, code, reason)
				require.Contains(t, reason, "message not complete in time")
				// What is still underway does not reset the socket, which would
				// overtake the close frame.
				_, err := c.conn.Write([]byte(strings.Repeat("x", 100_000)))
				require.NoError(t, err)
				c.expectEnd()
				require.EqualValues(t, 1, s.Stats().ClosedAbuse)
				unharmed()
			})
		})
	}
}

// A slow message within the time is fine, and the next one has its own time.
func TestAssemblyTimeoutIsPerMessage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, Options{})
		c := s.raw()
		for range 5 {
			c.write(rawBytes(opText, `{"type":`))
			time.Sleep(s.opts.AssemblyTimeout - time.Millisecond)
			c.write(rawBytes(bitFin|opContinuation, `"ping"}`))
			c.expect("pong")
			time.Sleep(time.Minute)
		}
	})
}

// A control frame that does not get complete ends the connection, too.
func TestDrippingControlFrame(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, Options{})
		unharmed := s.bystanders()
		c := s.raw()
		c.write(rawHead(bitFin|opPing, 100))
		start := time.Now()
		for range 100 {
			c.write([]byte("x"))
			time.Sleep(time.Second)
			if synctest.Wait(); s.Conn(c.id) == nil {
				break
			}
		}
		require.LessOrEqual(t, time.Since(start), 10*time.Second)
		c.closeFrame()
		unharmed()
	})
}

// S21, F57: who floods control frames is closed, and is not answered on the way.
func TestControlFloods(t *testing.T) {
	for name, frame := range map[string][]byte{
		"pings":      rawBytes(bitFin|opPing, "x"),
		"pongs":      rawBytes(bitFin|opPong, "x"),
		"long pings": rawBytes(bitFin|opPing, strings.Repeat("x", 125)),
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s := serve(t, Options{})
				unharmed := s.bystanders()
				c := s.raw()
				for range 10_000 {
					c.write(frame)
				}
				answers := 0
				for {
					f := c.frame()
					if f.first == bitFin|opClose {
						require.Equal(t, string(rawClose(ClosePolicy, "too many control frames")[6:]), string(f.payload))
						break
					}
					require.EqualValues(t, bitFin|opPong, f.first)
					answers++
				}
				require.LessOrEqual(t, answers, controlBurst)
				c.expectEnd()
				require.EqualValues(t, 1, s.Stats().ClosedAbuse)
				unharmed()
			})
		})
	}
}

// Pings at a rate that clients really have, and pongs that nobody asked for
// (RFC 6455, section 5.5.3, allows them), do no harm.
func TestModestControlFrames(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, Options{})
		c := s.raw()
		for range 600 {
			c.write(rawBytes(bitFin|opPing, "payload"))
			for f := c.frame(); ; f = c.frame() {
				if f.first == bitFin|opPing {
					continue
				}
				require.EqualValues(t, bitFin|opPong, f.first)
				require.Equal(t, "payload", string(f.payload))
				break
			}
			c.write(rawBytes(bitFin|opPong, "unasked"))
			time.Sleep(time.Second)
		}
		c.text(`{"type":"ping"}`)
		c.expect("pong")
	})
}
