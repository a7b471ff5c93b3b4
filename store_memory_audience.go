package parley

import (
	"context"
	"slices"
	"strings"
	"sync"
)

const (
	// memoryPart is how many users a part of an audience has at most.
	memoryPart = 512
	// memoryAudienceStep is how many users are added or removed under one lock.
	memoryAudienceStep = 1000
)

// memoryAudiences holds the users of all audiences.
type memoryAudiences struct {
	mu   sync.RWMutex // guards the fields below; taken alone
	sets memoryMap[string, *memoryAudience]
}

// memoryAudience is a sorted set of users, cut into parts, so that it is cheap to change it in the
// middle. None of the parts is empty.
type memoryAudience struct{ parts [][]string }

// AddUsers implements [Store].
func (s *MemoryStore) AddUsers(ctx context.Context, audience string, userIDs []string) error {
	return s.audiences.change(ctx, userIDs, func(step []string) {
		set := s.audiences.sets.m[audience]
		if set == nil {
			set = &memoryAudience{}
			s.audiences.sets.set(audience, set)
		}
		for _, id := range step {
			set.add(id)
		}
	})
}

// RemoveUsers implements [Store].
func (s *MemoryStore) RemoveUsers(ctx context.Context, audience string, userIDs []string) error {
	return s.audiences.change(ctx, userIDs, func(step []string) {
		set := s.audiences.sets.m[audience]
		if set == nil {
			return
		}
		for _, id := range step {
			set.remove(id)
		}
		if len(set.parts) == 0 {
			s.audiences.sets.delete(audience)
		}
	})
}

// Users implements [Store].
func (s *MemoryStore) Users(ctx context.Context, audience, after string, limit int) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.audiences.mu.RLock()
	defer s.audiences.mu.RUnlock()
	set := s.audiences.sets.m[audience]
	if set == nil {
		return nil, nil
	}
	return set.list(after, limit), nil
}

// change calls do for all users, a few at a time, so that many of them do not hold up everybody else.
func (a *memoryAudiences) change(ctx context.Context, userIDs []string, do func(step []string)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	for step := range slices.Chunk(userIDs, memoryAudienceStep) {
		if err := ctx.Err(); err != nil {
			return err
		}
		a.mu.Lock()
		do(step)
		a.mu.Unlock()
	}
	return nil
}

// find returns where id is, or would have to be inserted. There is a part.
func (a *memoryAudience) find(id string) (part, index int, ok bool) {
	part, ok = slices.BinarySearchFunc(a.parts, id, func(part []string, id string) int { return strings.Compare(part[0], id) })
	if ok {
		return part, 0, true
	}
	part = max(part-1, 0) // the last one that begins before id
	index, ok = slices.BinarySearch(a.parts[part], id)
	return part, index, ok
}

func (a *memoryAudience) add(id string) {
	if len(a.parts) == 0 {
		a.parts = [][]string{{id}}
		return
	}
	p, i, ok := a.find(id)
	if ok {
		return
	}
	part := slices.Insert(a.parts[p], i, id)
	a.parts[p] = part
	if len(part) <= memoryPart {
		return
	}
	half := len(part) / 2
	if i == len(part)-1 {
		half = i // users who come in order fill the parts
	}
	a.parts = slices.Insert(a.parts, p+1, slices.Clone(part[half:]))
	clear(part[half:])
	a.parts[p] = part[:half]
}

func (a *memoryAudience) remove(id string) {
	if len(a.parts) == 0 {
		return
	}
	p, i, ok := a.find(id)
	if !ok {
		return
	}
	part := slices.Delete(a.parts[p], i, i+1)
	a.parts[p] = part
	switch {
	case len(part) == 0:
		a.cut(p)
	case len(part) > memoryPart/4:
	case p > 0 && len(a.parts[p-1])+len(part) <= memoryPart/2:
		a.join(p - 1)
	case p+1 < len(a.parts) && len(part)+len(a.parts[p+1]) <= memoryPart/2:
		a.join(p)
	case cap(part) > 16 && len(part) <= cap(part)/4:
		a.parts[p] = slices.Clone(part)
	}
}

// join makes one part of part p and the next one.
func (a *memoryAudience) join(p int) {
	a.parts[p] = slices.Concat(a.parts[p], a.parts[p+1])
	a.cut(p + 1)
}

// cut removes a part.
func (a *memoryAudience) cut(p int) {
	a.parts = slices.Delete(a.parts, p, p+1)
	if cap(a.parts) > 16 && len(a.parts) <= cap(a.parts)/4 {
		a.parts = slices.Clone(a.parts)
	}
}

// list returns the first users after after.
func (a *memoryAudience) list(after string, limit int) []string {
	p, i, ok := a.find(after)
	if ok {
		i++
	}
	var found []string
	for ; p < len(a.parts) && len(found) < limit; p++ {
		part := a.parts[p][i:]
		found = append(found, part[:min(len(part), limit-len(found))]...)
		i = 0
	}
	return found
}
