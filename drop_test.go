package parley

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// dropLog is a Drop hook that sums up.
type dropLog struct {
	mu    sync.Mutex // guards the fields below
	sum   Drop
	calls int
}

func (l *dropLog) hook(_ *Conn, d Drop) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls++
	l.sum.Messages += d.Messages
	l.sum.Signals += d.Signals
	l.sum.Replaced += d.Replaced
}

func (l *dropLog) total() Drop {
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sum
}

// The hook hears of every message that a slow connection was meant to get and
// did not: what is received and what is lost add up to what was sent.
func TestEveryDropIsTold(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var log dropLog
		opts := slowOptions()
		opts.Hooks.Drop = log.hook
		s := serve(t, opts)
		slow := s.stall("slow")
		payload := strings.Repeat("x", 1000)
		for more := true; more; {
			r, err := s.Room("r").Send(t.Context(), payload)
			require.NoError(t, err)
			more = r.Delivered > 0
		}
		stats := s.Stats() // of this one connection
		slow.read()
		require.Equal(t, CloseSlow, slow.closeCode())
		d := log.total()
		require.Positive(t, d.Messages)
		require.EqualValues(t, stats.Delivered+stats.Dropped, d.Messages+len(slow.in))
		require.Zero(t, d.Signals+d.Replaced)
	})
}

// A signal that is dropped or replaced closes nobody, and is told as what it is.
func TestDroppedSignalsAreTold(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var log dropLog
		opts := slowOptions()
		opts.Hooks.Drop = log.hook
		s := serve(t, opts)
		sender := s.connect(dialOptions{v1: true, user: "fast"})
		sender.expect("inbox")
		sender.join("r", "fast")
		slow := s.stall("slow")
		data := strings.Repeat("x", 1000)
		const same, different = 200, 100
		for range same {
			sender.send(map[string]any{"type": "signal", "name": "typing", "data": data})
		}
		for i := range different {
			sender.send(map[string]any{"type": "signal", "name": strings.Repeat("n", i%60+1), "data": data})
		}
		synctest.Wait()
		d := log.total()
		require.Positive(t, d.Replaced)
		require.Positive(t, d.Signals)
		require.Zero(t, d.Messages)
		slow.read()
		synctest.Wait()
		received := 0
		for len(slow.in) > 0 {
			if (<-slow.in).str("type") == "signal" {
				received++
			}
		}
		require.Equal(t, same+different, received+d.Replaced+d.Signals)
	})
}

// The hook is application code: it may take its time, call back, and panic.
func TestDropHookIsIsolated(t *testing.T) {
	bubble(t, func(t *testing.T) {
		gate := make(chan struct{})
		var calls int
		opts := slowOptions()
		opts.Hooks.Drop = func(c *Conn, d Drop) {
			calls++ // never two at a time: the race detector would see it
			<-gate
			_ = c.Send(context.Background(), "too late")
			panic("hook")
		}
		s := serve(t, opts)
		other := s.connect(dialOptions{v1: true, user: "other"})
		other.expect("inbox")
		other.join("r", "o")
		s.stall("slow")
		for range 200 {
			_, err := s.Room("r").Send(t.Context(), strings.Repeat("x", 1000))
			require.NoError(t, err)
			synctest.Wait()
		}
		other.drain()
		close(gate)
		synctest.Wait()
		require.Positive(t, calls)
		require.Positive(t, s.Stats().Panics)
		time.Sleep(time.Second)
		require.NotNil(t, s.Conn(other.id))
	})
}

// F12: a Store that breaks its contract is found out: what it says is not
// delivered, and publishers and members are told.
func TestBrokenStore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store := newHookStore()
		s := serve(t, Options{Store: store})
		_, err := s.Room("r").Send(t.Context(), 1)
		require.NoError(t, err)
		_, err = s.Room("r").Send(t.Context(), 2)
		require.NoError(t, err)
		broken := map[string]func(*Page){
			"hole":       func(p *Page) { p.Entries[1].Offset++ },
			"order":      func(p *Page) { p.Entries[0], p.Entries[1] = p.Entries[1], p.Entries[0] },
			"doubled":    func(p *Page) { p.Entries[1] = p.Entries[0] },
			"beyond":     func(p *Page) { p.Top = 1 },
			"before":     func(p *Page) { p.First = 2 },
			"no epoch":   func(p *Page) { p.Epoch = "" },
			"bounds":     func(p *Page) { p.First = 9 },
			"first is 0": func(p *Page) { p.First = 0 },
			"more than asked": func(p *Page) {
				for i := range int64(maxPage) {
					p.Entries = append(p.Entries, Entry{Offset: 3 + i, Data: []byte(`{"a":1}`)})
				}
				p.Top += maxPage
			},
		}
		for name, breakIt := range broken {
			store.onRead = func(_ context.Context, _ string, q Query, next func() (Page, error)) (Page, error) {
				p, err := next()
				if q.Limit > 0 {
					breakIt(&p)
				}
				return p, err
			}
			c := s.v1()
			c.send(`{"type":"join","id":"j","room":"r"}`)
			require.Equal(t, "unavailable", c.expect("error").str("code"), name)
		}
		store.onRead = nil

		c := s.v1()
		c.join("r", "kim")
		time.Sleep(time.Second)
		c.drain()
		errors := s.Stats().StoreErrors
		store.onAppend = func(_ context.Context, _ string, entries []Entry, next func() (Log, error)) (Log, error) {
			epoch, err := next()
			entries[0].Offset = 0
			return epoch, err
		}
		_, err = s.Room("r").Send(t.Context(), "stored, but where")
		require.ErrorIs(t, err, ErrStore)
		c.expectNone()
		store.onAppend = func(_ context.Context, _ string, _ []Entry, next func() (Log, error)) (Log, error) {
			_, err := next()
			return Log{}, err
		}
		_, err = s.Room("r").Send(t.Context(), "in no log")
		require.ErrorIs(t, err, ErrStore)
		c.expectNone()
		require.EqualValues(t, errors+2, s.Stats().StoreErrors)

		// Both are in the log all the same: the next message brings them, in order.
		store.onAppend = nil
		_, err = s.Room("r").Send(t.Context(), 5)
		require.NoError(t, err)
		for _, want := range []any{"stored, but where", "in no log", 5.0} {
			require.Equal(t, want, c.expect("message")["content"])
		}
		require.ErrorContains(t, checkAppended("e", []Entry{{Offset: 1}, {Offset: 3}}), "offset 3 after 1")
		require.NoError(t, checkAppended("e", []Entry{{Offset: 4}, {Offset: 2, Duplicate: true}, {Offset: 5}}))
	})
}
