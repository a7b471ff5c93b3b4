// Package shop is a service to be killed: it takes orders, and tells its
// customers of each. The order and the notification are written in one
// transaction of the service's own. What it did it says, line by line, before
// anything can end it.
package shop

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	_ "modernc.org/sqlite"             // the driver "sqlite"

	"github.com/parley-go/parley"
	"github.com/parley-go/parley/adapters/sqlstore"
	"github.com/parley-go/parley/integration/chatd"
)

// Customers are the users who order.
var Customers = []string{"kim", "lee", "sam"}

// workers is how many orders are taken at the same time.
const workers = 2

// Config says where the shop keeps its data, what it does and how it ends.
type Config struct {
	Dialect sqlstore.Dialect
	// Source is the data source name of the database.
	Source string
	// Port to listen at on 127.0.0.1.
	Port string
	// Run numbers the lives of the shop: its orders are "<Run>.<n>", and chance
	// is drawn from it.
	Run int
	// Orders is how many are taken at most. Default: none.
	Orders int
	// Dies is the place where the shop kills itself, Times how often it comes
	// there before. Default: nowhere.
	Dies  Place
	Times int
}

// Shop is the service, open for business.
type Shop struct {
	DB    *sql.DB
	Store *sqlstore.Store
	Hub   *parley.Hub

	cfg  Config
	out  io.Writer
	fate *fate
	ends context.CancelFunc
	work sync.WaitGroup
}

// Open makes a Shop with its database, its hub and the relay. What happens is
// written to out: a line and a Write each.
func Open(out io.Writer, cfg Config) (*Shop, error) {
	driver := "pgx"
	if cfg.Dialect == sqlstore.SQLite {
		driver = "sqlite"
	}
	db, err := sql.Open(driver, cfg.Source)
	if err != nil {
		return nil, err
	}
	store, err := sqlstore.New(db, sqlstore.Options{Dialect: cfg.Dialect})
	if err != nil {
		return nil, err
	}
	s := &Shop{DB: db, Store: store, cfg: cfg, out: out, fate: newFate(cfg.Dies, cfg.Times)}
	ctx, cancel := context.WithCancel(context.Background())
	s.ends = cancel
	if err := s.prepare(ctx); err != nil {
		s.Close()
		return nil, err
	}
	if s.Hub, err = chatd.NewHub(mortal{store, s.fate}); err != nil {
		s.Close()
		return nil, err
	}
	s.work.Go(func() { s.relay(ctx) })
	return s, nil
}

// prepare makes the tables, and says how many notifications an earlier life has left.
func (s *Shop) prepare(ctx context.Context) error {
	if err := s.Store.Migrate(ctx); err != nil {
		return err
	}
	_, err := s.DB.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS orders (id varchar(40) PRIMARY KEY, customer varchar(40) NOT NULL)`)
	if err != nil {
		return err
	}
	n, err := s.Waiting(ctx)
	if err == nil && n > 0 {
		s.say("left %d", n)
	}
	return err
}

// Waiting returns how many notifications wait in the outbox, those that were set aside included.
func (s *Shop) Waiting(ctx context.Context) (n int, err error) {
	err = s.DB.QueryRowContext(ctx, `SELECT count(*) FROM parley_outbox`).Scan(&n)
	return n, err
}

// Orders returns the ids of a customer's orders.
func (s *Shop) Orders(ctx context.Context, customer string) (ids []string, err error) {
	rows, err := s.DB.QueryContext(ctx, `SELECT id FROM orders WHERE customer = `+s.placeholders(1), customer)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}

// Close ends what Open has started.
func (s *Shop) Close() {
	s.ends()
	s.work.Wait()
	if s.Hub != nil {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_ = s.Hub.Shutdown(ctx) // what is not closed by then ends with the process
	}
	_ = s.Store.Close() // returns nil
	_ = s.DB.Close()    // nothing is written any more
}

// Trade takes orders, some of which it cancels, and ends with ctx or after
// cfg.Orders of them. With an error of the database it stops, unless carryOn says otherwise.
func (s *Shop) Trade(ctx context.Context, carryOn func(err error) bool) error {
	var all sync.WaitGroup
	failed := make(chan error, workers) // room for the result of each
	for w := range workers {
		all.Go(func() {
			chance := rand.New(rand.NewPCG(uint64(s.cfg.Run), uint64(w)))
			for n := w; n < s.cfg.Orders && ctx.Err() == nil; n += workers {
				id := fmt.Sprintf("%d.%d", s.cfg.Run, n)
				err := s.order(ctx, id, Customers[chance.IntN(len(Customers))], chance.IntN(3) == 0)
				if err != nil && !carryOn(err) {
					failed <- fmt.Errorf("order %s: %w", id, err)
					return
				}
			}
		})
	}
	all.Wait()
	close(failed)
	return <-failed
}

// order takes an order and tells the customer: both, or neither.
func (s *Shop) order(ctx context.Context, id, customer string, cancel bool) error {
	tx, err := s.DB.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // does nothing after Commit
	if _, err := tx.ExecContext(ctx, `INSERT INTO orders (id, customer) VALUES (`+s.placeholders(2)+`)`, id, customer); err != nil {
		return err
	}
	err = s.Store.Enqueue(ctx, tx, sqlstore.Notification{UserID: customer, ID: id, Kind: "order.taken", Data: map[string]string{"order": id}})
	if err != nil {
		return err
	}
	s.fate.reach(BeforeCommit)
	if cancel {
		s.say("cancelled %s", id)
		return tx.Rollback()
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	s.say("taken %s", id)
	s.fate.reach(AfterCommit)
	s.Store.Wake()
	return nil
}

func (s *Shop) placeholders(n int) string {
	if s.cfg.Dialect == sqlstore.SQLite {
		return "?, ?"[:3*n-2]
	}
	return "$1, $2"[:4*n-2]
}

func (s *Shop) say(format string, args ...any) { fmt.Fprintf(s.out, format+"\n", args...) }
