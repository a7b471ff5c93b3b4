package parley

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// view is what a client makes of the messages of one room by the rules of
// docs/protocol.md. It fails on whatever a client must never see: a hole, a
// double, another order, a position of another epoch.
type view struct {
	room      string
	joined    bool
	epoch     string
	offset    int64
	recovered any
	resets    int // histories that were not a recovery
	seen      []any
	first     int64 // offset of seen[0]
}

func (v *view) apply(t testing.TB, all []message) {
	t.Helper()
	for _, m := range all {
		if m.str("room") != v.room {
			continue
		}
		switch m.str("type") {
		case "history":
			v.history(t, m)
		case "message":
			require.True(t, v.joined, "live before history: %v", m)
			v.add(t, m)
		}
	}
}

func (v *view) history(t testing.TB, m message) {
	t.Helper()
	if _, page := m["id"]; page {
		return
	}
	v.joined, v.recovered = true, m["recovered"]
	entries := m.entries()
	if v.recovered == true {
		require.Equal(t, v.epoch, m.str("epoch"), "recovered in another epoch")
		require.Len(t, entries, int(m.num("offset")-v.offset), "a part of what was missed: %v", m)
	} else {
		v.resets++
		v.epoch, v.seen = m.str("epoch"), nil
		v.offset = m.num("offset") - int64(len(entries))
		v.first = v.offset + 1
	}
	for _, e := range entries {
		require.Equal(t, "message", e.str("type"))
		require.Equal(t, v.room, e.str("room"))
		v.add(t, e)
	}
	require.Equal(t, v.offset, m.num("offset"))
}

// add takes the next message, of a history or live.
func (v *view) add(t testing.TB, m message) {
	t.Helper()
	require.Equal(t, v.epoch, m.str("epoch"), "%v", m)
	require.Equal(t, v.offset+1, m.num("offset"), "hole or double: %v", m)
	v.offset++
	v.seen = append(v.seen, m["content"])
}

// requireLog asserts that v saw the end of log, which begins at offset 1.
func (v *view) requireLog(t testing.TB, log []any) {
	t.Helper()
	require.EqualValues(t, len(log), v.offset)
	require.Equal(t, log[v.first-1:], v.seen)
}
