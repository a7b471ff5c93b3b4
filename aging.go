package parley

import "time"

// maxAging bounds what is remembered by time, to some 16 MiB.
const maxAging = 100_000

// aging remembers something under a key for a time that is the same for all,
// and no more than maxAging keys: the oldest make way.
type aging[V any] struct {
	life    time.Duration
	entries map[string]aged[V]
	order   []agedKey // by time; those that were removed or put again are still in it
}

type aged[V any] struct {
	value V
	until time.Time
}

type agedKey struct {
	key   string
	until time.Time
}

func newAging[V any](life time.Duration) aging[V] {
	return aging[V]{life: life, entries: make(map[string]aged[V])}
}

func (a *aging[V]) put(key string, value V) {
	now := time.Now()
	a.forget(now)
	for len(a.order) >= maxAging {
		a.dropFirst()
	}
	until := now.Add(a.life)
	a.entries[key] = aged[V]{value, until}
	a.order = append(a.order, agedKey{key, until})
}

// get returns what is not too old yet.
func (a *aging[V]) get(key string) (value V, ok bool) {
	e, ok := a.entries[key]
	if !ok || time.Now().After(e.until) {
		return value, false
	}
	return e.value, true
}

func (a *aging[V]) remove(key string) { delete(a.entries, key) }

// forget drops what is too old.
func (a *aging[V]) forget(now time.Time) {
	for len(a.order) > 0 && now.After(a.order[0].until) {
		a.dropFirst()
	}
}

// dropFirst drops the oldest entry, unless it was put again since.
func (a *aging[V]) dropFirst() {
	first := a.order[0]
	if e, ok := a.entries[first.key]; ok && e.until.Equal(first.until) {
		delete(a.entries, first.key)
	}
	if a.order = a.order[1:]; len(a.order) == 0 {
		a.order = nil
	}
}
