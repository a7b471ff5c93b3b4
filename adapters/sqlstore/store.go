package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parley-go/parley"
)

// Store is a [parley.Store] in an SQL database. All methods may be called
// concurrently. Make one with New, and end its use with Close.
type Store struct {
	db    *sql.DB
	opts  Options
	words *strings.Replacer
	texts sync.Map // statement -> its text in the dialect

	clock    clock
	checked  atomic.Bool   // the schema was found to be right
	checking chan struct{} // holds a value while somebody looks
	queue    queue
	hints    hints // topics with something to delete
	relays   relays

	closing context.Context // ends with Close
	close   context.CancelFunc
	running sync.WaitGroup
}

var _ parley.Store = (*Store)(nil)

// New returns a Store over db, which stays the application's: Close does not
// close it. New itself does not use the database: call Migrate before anything
// else, or create the tables as Schema says.
func New(db *sql.DB, opts Options) (*Store, error) {
	if db == nil {
		return nil, errors.New("sqlstore: New needs a *sql.DB")
	}
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Store{db: db, opts: opts, words: strings.NewReplacer(opts.Dialect.words(opts.TablePrefix)...)}
	s.clock.init(opts.Dialect)
	s.checking = make(chan struct{}, 1)
	s.queue.wake = make(chan struct{}, 1)
	s.relays.wake = make(chan struct{}, 1)
	s.closing, s.close = context.WithCancel(context.Background())
	s.running.Go(s.commitLoop)
	if opts.CleanInterval > 0 {
		s.running.Go(s.cleanLoop)
	}
	return s, nil
}

// Close waits for the transaction under way, fails the writes that wait, and
// stops the goroutines of s. Shut the hub down before. A second Close does
// nothing. It returns nil.
func (s *Store) Close() error {
	s.close()
	s.running.Wait()
	return nil
}

// lockSQLite changes nothing, because nothing has this version.
const lockSQLite = `DELETE FROM {p}schema WHERE version = 0`

// rollback ends a transaction that failed with err, which says more than what is returned here. After a panic of
// the driver database/sql waits for ever for the statement to end: that costs a connection, but not the committer.
func rollback(tx *sql.Tx, err error) {
	var panicked panicError
	if !errors.As(err, &panicked) {
		_ = tx.Rollback()
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = protect(tx.Rollback)
	}()
	select {
	case <-done:
	case <-time.After(time.Second):
	}
}

// transaction runs f in a transaction that may write. What f returns wins over
// what else goes wrong; an error of the COMMIT is a commitError. A panic becomes an error.
func (s *Store) transaction(ctx context.Context, f func(tx *sql.Tx) error) (err error) {
	defer caught(&err)
	var opts *sql.TxOptions
	if s.opts.Dialect == PostgreSQL {
		// Each statement sees what was committed before it: after waiting for a lock that is needed.
		opts = &sql.TxOptions{Isolation: sql.LevelReadCommitted}
	}
	tx, err := s.db.BeginTx(ctx, opts)
	if err != nil {
		return err
	}
	err = protect(func() error {
		if s.opts.Dialect == SQLite {
			// Takes the write lock, waiting for it as long as busy_timeout says. A
			// transaction that reads first and then writes would fail instead of waiting.
			if _, err := tx.ExecContext(ctx, s.text(lockSQLite)); err != nil {
				return err
			}
		}
		return f(tx)
	})
	if err != nil {
		rollback(tx, err)
		return err
	}
	if err := protect(tx.Commit); err != nil {
		return commitError{err}
	}
	return nil
}
