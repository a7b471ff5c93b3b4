package storetest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley"
)

// memoryPublisher is a parley.AppendPublisher in memory. What it does wrong, if anything, is in appendPublish.
type memoryPublisher struct {
	*parley.MemoryStore
	*parley.MemoryBroker
	mu            sync.Mutex // keeps what is published in order
	appendPublish func(p *memoryPublisher, ctx context.Context, topic string, keep parley.Retention, entries []parley.Entry, payload []byte) (parley.Log, error)
}

func newMemoryPublisher() *memoryPublisher {
	return &memoryPublisher{MemoryStore: parley.NewMemoryStore(), MemoryBroker: parley.NewMemoryBroker()}
}

func (p *memoryPublisher) AppendPublish(ctx context.Context, topic string, keep parley.Retention, entries []parley.Entry, payload []byte) (parley.Log, error) {
	if p.appendPublish != nil {
		return p.appendPublish(p, ctx, topic, keep, entries, payload)
	}
	return p.right(ctx, topic, keep, entries, payload)
}

// right does what the contract says.
func (p *memoryPublisher) right(ctx context.Context, topic string, keep parley.Retention, entries []parley.Entry, payload []byte) (parley.Log, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	log, err := p.Append(ctx, topic, keep, entries)
	if err == nil && slices.ContainsFunc(entries, func(e parley.Entry) bool { return !e.Duplicate }) {
		err = p.Publish(context.WithoutCancel(ctx), topic, []byte(framed(log, entries, string(payload))))
	}
	return log, err
}

// publishes appends, and publishes what f makes of it.
func publishes(f func(log parley.Log, entries []parley.Entry, payload string) string) func(p *memoryPublisher) {
	return func(p *memoryPublisher) {
		p.appendPublish = func(p *memoryPublisher, ctx context.Context, topic string, keep parley.Retention, entries []parley.Entry, payload []byte) (parley.Log, error) {
			p.mu.Lock()
			defer p.mu.Unlock()
			log, err := p.Append(ctx, topic, keep, entries)
			if frame := f(log, entries, string(payload)); err == nil && frame != "" {
				err = p.Publish(ctx, topic, []byte(frame))
			}
			return log, err
		}
	}
}

// does breaks the whole method.
func does(f func(p *memoryPublisher, ctx context.Context, topic string, keep parley.Retention, entries []parley.Entry, payload []byte) (parley.Log, error)) func(p *memoryPublisher) {
	return func(p *memoryPublisher) { p.appendPublish = f }
}

func duplicatesOnly(entries []parley.Entry) bool {
	return !slices.ContainsFunc(entries, func(e parley.Entry) bool { return !e.Duplicate })
}

var brokenPublishers = []struct {
	flaw, caughtBy string
	breakIt        func(p *memoryPublisher)
}{
	{"publishes the payload alone", "AppendPublish/publishes the payload behind the header, to subscribers of both nodes",
		publishes(func(_ parley.Log, entries []parley.Entry, payload string) string { return payload })},
	{"ends the payload at a newline", "AppendPublish/publishes the payload behind the header, to subscribers of both nodes",
		publishes(func(log parley.Log, entries []parley.Entry, payload string) string {
			payload, _, _ = strings.Cut(payload, "\n")
			return framed(log, entries, payload)
		})},
	{"does not trim", "AppendPublish/does what Append does",
		does(func(p *memoryPublisher, ctx context.Context, topic string, keep parley.Retention, entries []parley.Entry, payload []byte) (parley.Log, error) {
			keep.Messages += 100
			return p.right(ctx, topic, keep, entries, payload)
		})},
	{"changes the payload given", "AppendPublish/neither keeps nor changes the slices given",
		does(func(p *memoryPublisher, ctx context.Context, topic string, keep parley.Retention, entries []parley.Entry, payload []byte) (parley.Log, error) {
			log, err := p.right(ctx, topic, keep, entries, payload)
			clear(payload)
			return log, err
		})},
	{"publishes the slice given", "AppendPublish/neither keeps nor changes the slices given",
		does(func(p *memoryPublisher, ctx context.Context, topic string, keep parley.Retention, entries []parley.Entry, payload []byte) (parley.Log, error) {
			log, err := p.Append(ctx, topic, keep, entries)
			list := slices.Clone(entries)
			time.AfterFunc(time.Microsecond, func() { // later than the caller changes them
				_ = p.Publish(context.Background(), topic, []byte(framed(log, list, string(payload))))
			})
			return log, err
		})},
	{"lists the offsets of duplicates", "AppendPublish/an offset of a duplicate is 0 in the list (F24)",
		publishes(func(log parley.Log, entries []parley.Entry, payload string) string {
			entries = slices.Clone(entries)
			for i := range entries {
				entries[i].Duplicate = false
			}
			return framed(log, entries, payload)
		})},
	{"publishes duplicates", "AppendPublish/publishes nothing for duplicates only, or for no entries (F10)",
		publishes(func(log parley.Log, entries []parley.Entry, payload string) string {
			if len(entries) == 0 {
				return ""
			}
			return framed(log, entries, payload)
		})},
	{"publishes without entries", "AppendPublish/publishes nothing for duplicates only, or for no entries (F10)",
		publishes(func(log parley.Log, entries []parley.Entry, payload string) string {
			if len(entries) > 0 && duplicatesOnly(entries) {
				return ""
			}
			return framed(log, entries, payload)
		})},
	{"has the newest offset for Version", "AppendPublish/the header is of the Log after Marks and lost entries",
		publishes(func(log parley.Log, entries []parley.Entry, payload string) string {
			log.Version = entries[len(entries)-1].Offset
			return framed(log, entries, payload)
		})},
	{"folds the case of topics when it publishes", "AppendPublish/topics are opaque and kept apart from each other (S38)",
		does(func(p *memoryPublisher, ctx context.Context, topic string, keep parley.Retention, entries []parley.Entry, payload []byte) (parley.Log, error) {
			log, err := p.Append(ctx, topic, keep, entries)
			return log, errors.Join(err, p.Publish(ctx, fold(topic), []byte(framed(log, entries, string(payload)))))
		})},
	{"publishes in a second step", "AppendPublish/publishes in the order of the offsets, whoever publishes (F28)",
		does(func(p *memoryPublisher, ctx context.Context, topic string, keep parley.Retention, entries []parley.Entry, payload []byte) (parley.Log, error) {
			log, err := p.Append(ctx, topic, keep, entries)
			time.Sleep(time.Duration(1+entries[0].Offset%7) * time.Millisecond)
			return log, errors.Join(err, p.Publish(ctx, topic, []byte(framed(log, entries, string(payload)))))
		})},
	{"fails when nobody has subscribed", "AppendPublish/does not need subscribers",
		does(func(p *memoryPublisher, ctx context.Context, topic string, keep parley.Retention, entries []parley.Entry, payload []byte) (parley.Log, error) {
			return parley.Log{}, errors.New("no such channel")
		})},
	{"publishes before it appends", "AppendPublish/honours ctx, and publishes nothing that is not stored (F9)",
		does(func(p *memoryPublisher, ctx context.Context, topic string, keep parley.Retention, entries []parley.Entry, payload []byte) (parley.Log, error) {
			_ = p.Publish(context.WithoutCancel(ctx), topic, []byte(framed(parley.Log{Epoch: "e"}, entries, string(payload))))
			return p.Append(ctx, topic, keep, entries)
		})},
	{"ignores ctx", "AppendPublish/honours ctx, and publishes nothing that is not stored (F9)",
		does(func(p *memoryPublisher, ctx context.Context, topic string, keep parley.Retention, entries []parley.Entry, payload []byte) (parley.Log, error) {
			return p.right(context.WithoutCancel(ctx), topic, keep, entries, payload)
		})},
}

func TestPublisherPasses(t *testing.T) {
	for _, tc := range publishCases {
		got := runStoreCase(t, tc.name, func() parley.Store { return newMemoryPublisher() })
		require.Empty(t, got, tc.name)
	}
}

func TestBrokenPublishersAreCaught(t *testing.T) {
	caught := map[string]bool{}
	for _, m := range brokenPublishers {
		caught[m.caughtBy] = true
		t.Run(m.flaw, func(t *testing.T) {
			failures := runStoreCase(t, m.caughtBy, func() parley.Store {
				p := newMemoryPublisher()
				m.breakIt(p)
				return p
			})
			require.NotEmptyf(t, failures, "a publisher that %s passed %q", m.flaw, m.caughtBy)
			t.Logf("%s", failures[0])
		})
	}
	for _, tc := range publishCases {
		require.Truef(t, caught[tc.name], "no broken publisher is to be caught by %q", tc.name)
	}
}
