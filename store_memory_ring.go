package parley

// memoryRing is a queue in a circular buffer whose memory follows its length:
// it doubles when full, shrinks when three quarters are free, and an empty one
// holds nothing. The zero value is an empty queue.
type memoryRing[T any] struct {
	slots []T
	head  int // index in slots of the oldest element
	count int
}

func (r *memoryRing[T]) len() int { return r.count }

// at returns the i-th oldest element, to be used before the next push or discard.
func (r *memoryRing[T]) at(i int) *T {
	i += r.head
	if i >= len(r.slots) {
		i -= len(r.slots)
	}
	return &r.slots[i]
}

// push adds v as the newest element. The caller keeps the length at limit or
// below it; the buffer does not grow beyond limit then.
func (r *memoryRing[T]) push(v T, limit int) {
	if r.count == len(r.slots) {
		r.resize(max(r.count+1, min(max(4, 2*r.count), limit)))
	}
	r.count++
	*r.at(r.count - 1) = v
}

// discard removes the n oldest elements.
func (r *memoryRing[T]) discard(n int) {
	if n >= r.count {
		*r = memoryRing[T]{}
		return
	}
	var zero T
	for range n {
		r.slots[r.head] = zero // lets the garbage collector have what it points to
		if r.head++; r.head == len(r.slots) {
			r.head = 0
		}
	}
	r.count -= n
	if len(r.slots) > 16 && r.count <= len(r.slots)/4 {
		r.resize(2 * r.count)
	}
}

func (r *memoryRing[T]) resize(n int) {
	slots := make([]T, n)
	tail := copy(slots, r.slots[r.head:min(r.head+r.count, len(r.slots))])
	copy(slots[tail:], r.slots[:r.count-tail])
	r.slots, r.head = slots, 0
}

// memoryMap is a map that gives memory back. A map of Go keeps the size it
// once had, and the names in these maps come from users (F47). The zero value
// is an empty map; m may be read and ranged over directly.
type memoryMap[K comparable, V any] struct {
	m    map[K]V
	peak int // the largest len(m) since m was made
}

func (m *memoryMap[K, V]) set(k K, v V) {
	if m.m == nil {
		m.m = make(map[K]V)
	}
	m.m[k] = v
	m.peak = max(m.peak, len(m.m))
}

func (m *memoryMap[K, V]) delete(k K) {
	delete(m.m, k)
	m.shrink()
}

// shrink moves what is left into a smaller map when it has become few. The
// cost is spread over the deletions before it. Not for use while ranging over m.
func (m *memoryMap[K, V]) shrink() {
	switch {
	case len(m.m) == 0:
		m.m, m.peak = nil, 0
	case m.peak > 64 && len(m.m) < m.peak/4:
		smaller := make(map[K]V, len(m.m))
		for k, v := range m.m {
			smaller[k] = v
		}
		m.m, m.peak = smaller, len(smaller)
	}
}
