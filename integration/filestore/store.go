// Package filestore is a [parley.Store] in one append-only file, for tests
// that kill a server and start it again: what an Append has returned for is
// there afterwards, with its epoch, its offset and its idempotency key.
package filestore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/parley-go/parley"
)

// Store is a [parley.Store] for one process at a time. Logs are in the file
// and in memory; presence is in memory only, so that after a crash nobody is in any room.
//
// It is simple before anything else: one lock, one fsync for every Append, and
// a file that only ever grows. Ages are counted by the wall clock, because they
// go on while no process runs. All methods may be called concurrently.
type Store struct {
	*parley.MemoryStore // presence

	mu     sync.Mutex // guards the fields below
	file   *os.File
	size   int64 // of the file, up to the end of the last whole record
	broken error // the file is not what memory says: nothing can be appended any more
	// One epoch for all topics, as long as the file lasts: logs in it are never
	// dropped, so that (epoch, offset) names one message for good.
	epoch  string
	topics map[string]*log
}

var _ parley.Store = (*Store)(nil)

// Open opens the file at path, or makes a new one. What a crash has left
// unfinished at the end of it is cut off. Close ends the use of it.
func Open(path string) (*Store, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("filestore: %w", err)
	}
	s := &Store{MemoryStore: parley.NewMemoryStore(), file: file, topics: map[string]*log{}}
	if err := s.load(); err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("filestore: %s: %w", path, err)
	}
	return s, nil
}

// load replays the file, and gives a new one its epoch.
func (s *Store) load() error {
	size, err := replay(s.file, s.apply)
	if err != nil {
		return err
	}
	s.size = size
	if err := s.file.Truncate(size); err != nil {
		return err
	}
	if s.epoch != "" {
		return nil
	}
	return s.commit(record{Epoch: newEpoch()})
}

func newEpoch() string { return rand.Text()[:10] }

// Close closes the file. Every call afterwards fails.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = errors.New("filestore: closed")
	return s.file.Close()
}

// Lose forgets all logs, as a server does whose disk was replaced by an empty
// one: what was stored is gone, and the epoch is another.
func (s *Store) Lose() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.commit(record{Epoch: newEpoch()})
}

// Append implements [parley.Store].
func (s *Store) Append(ctx context.Context, topic string, keep parley.Retention, entries []parley.Entry) (string, error) {
	if keep.Messages <= 0 || keep.Age < 0 {
		return "", errors.New("filestore: Append needs keep.Messages > 0 and keep.Age >= 0")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil { // after the lock: others may have taken long
		return "", err
	}
	if len(entries) == 0 {
		return s.epoch, nil
	}
	rec := record{Topic: topic, Keep: keep.Messages, Age: keep.Age, At: time.Now().UnixNano()}
	rec.Entries = s.log(topic).place(rec.At, entries)
	if err := s.commit(rec); err != nil {
		return "", err
	}
	return s.epoch, nil
}

// Read implements [parley.Store].
func (s *Store) Read(ctx context.Context, topic string, q parley.Query) (parley.Page, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return parley.Page{}, err
	}
	page := s.log(topic).read(time.Now().UnixNano(), q)
	page.Epoch = s.epoch
	return page, nil
}

// log returns the log of a topic, an empty one that is not kept if there is none.
func (s *Store) log(topic string) *log {
	if l := s.topics[topic]; l != nil {
		return l
	}
	return &log{}
}

// commit makes rec durable, and only then visible: nobody has seen what a
// crash can take away. The caller holds s.mu.
func (s *Store) commit(rec record) error {
	if s.broken != nil {
		return s.broken
	}
	line, err := rec.line()
	if err != nil {
		return fmt.Errorf("filestore: %w", err)
	}
	_, err = s.file.WriteAt(line, s.size)
	if err == nil {
		err = s.file.Sync()
	}
	if err != nil {
		// Part of the record may be in the file. After a failed fsync nobody
		// knows what is: only the next Open can tell.
		s.broken = fmt.Errorf("filestore: a write failed earlier: %w", err)
		return s.broken
	}
	s.size += int64(len(line))
	s.apply(rec)
	return nil
}

// apply brings memory to the state after rec.
func (s *Store) apply(rec record) {
	if rec.Epoch != "" {
		s.epoch = rec.Epoch
		clear(s.topics)
		return
	}
	l := s.topics[rec.Topic]
	if l == nil {
		l = &log{}
		s.topics[rec.Topic] = l
	}
	l.append(rec)
}
