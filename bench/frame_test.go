package main

import (
	"bytes"
	"errors"
	"testing"
)

func TestFrameRoundTrip(t *testing.T) {
	for _, n := range []int{0, 1, 125, 126, 127, 65535, 65536, 70000} {
		for _, masked := range []bool{false, true} {
			want := bytes.Repeat([]byte{'a'}, n)
			b := appendFrame(nil, opText, want, masked)
			op, got, size, err := parseFrame(append(b, "next"...), masked)
			if err != nil || op != opText || size != len(b) || !bytes.Equal(got, want) {
				t.Errorf("%d bytes, masked %v: op %d, %d bytes, size %d of %d, %v", n, masked, op, len(got), size, len(b), err)
			}
		}
	}
}

func TestFrameIncomplete(t *testing.T) {
	for _, n := range []int{3, 200, 66000} {
		for _, masked := range []bool{false, true} {
			b := appendFrame(nil, opText, make([]byte, n), masked)
			for cut := 0; cut < len(b); cut += 1 + cut/7 {
				if _, _, size, err := parseFrame(b[:cut], masked); size != 0 || err != nil {
					t.Fatalf("%d of %d bytes: size %d, %v", cut, len(b), size, err)
				}
			}
		}
	}
}

func TestFrameUnmasksInPlace(t *testing.T) {
	// The example of RFC 6455, section 5.7.
	b := []byte{0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58}
	_, got, size, err := parseFrame(b, true)
	if string(got) != "Hello" || size != len(b) || err != nil {
		t.Errorf("got %q, size %d, %v", got, size, err)
	}
}

func TestFrameRefused(t *testing.T) {
	for name, b := range map[string][]byte{
		"fragment":   {0x01, 0x00},
		"compressed": {0xC1, 0x00},
		"masked":     {0x81, 0x80, 0, 0, 0, 0},
	} {
		if _, _, _, err := parseFrame(b, false); !errors.Is(err, errFrameBits) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, _, err := parseFrame([]byte{0x81, 127, 0xff, 0, 0, 0, 0, 0, 0, 0}, false); err == nil {
		t.Error("a frame of 2^63 bytes passed")
	}
}

func TestCloseCode(t *testing.T) {
	if got := closeCode([]byte{0x0f, 0xa0, 'b', 'y', 'e'}); got != 4000 {
		t.Errorf("got %d, want 4000", got)
	}
	if got := closeCode(nil); got != 1005 {
		t.Errorf("got %d, want 1005", got)
	}
}
