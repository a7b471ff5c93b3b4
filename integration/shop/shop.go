// Package shop is a service to be killed: it takes orders, and tells its
// customers of each. The order and the notification are written in one
// transaction of the service's own. What it did it says, line by line, before
// anything can end it.
package shop

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/parley-go/parley"
	"github.com/parley-go/parley/adapters/sqlstore"
	"github.com/parley-go/parley/integration/chatd"
)

// Customers are the users who order.
var Customers = []string{"kim", "lee", "sam"}

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
	// Orders is how many are taken. Default: none.
	Orders int
	// Dies is the place where the shop kills itself, Times how often it comes
	// there before. Default: nowhere.
	Dies  Place
	Times int
	// Log is where errors go. Default: os.Stderr.
	Log io.Writer `json:"-"`
}

func (c Config) log() io.Writer {
	if c.Log == nil {
		return os.Stderr
	}
	return c.Log
}

// Shop is the service, open for business.
type Shop struct {
	*Books
	Hub *parley.Hub

	cfg  Config
	out  io.Writer
	fate *fate
	ends context.CancelFunc
	work sync.WaitGroup
}

// Open makes a Shop with its database, its hub and the relay. What happens is
// written to out: a line and a Write each. Close ends it.
func Open(out io.Writer, cfg Config) (*Shop, error) {
	books, err := OpenBooks(cfg)
	if err != nil {
		return nil, err
	}
	s := &Shop{Books: books, cfg: cfg, out: out, fate: newFate(cfg.Dies, cfg.Times)}
	ctx, cancel := context.WithCancel(context.Background())
	s.ends = cancel
	if err = s.begin(ctx); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Shop) begin(ctx context.Context) error {
	if err := s.migrate(ctx); err != nil {
		return err
	}
	n, err := s.Waiting(ctx)
	if err != nil {
		return err
	}
	if n > 0 {
		s.say("left %d", n)
	}
	s.Hub, err = chatd.NewHub(mortal{s.Store, s.fate}, s.cfg.log())
	if err == nil {
		s.work.Go(func() { s.relay(ctx) })
	}
	return err
}

// Close ends all of it.
func (s *Shop) Close() {
	s.ends()
	s.work.Wait()
	if s.Hub != nil {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_ = s.Hub.Shutdown(ctx) // what is not closed by then ends with the process
	}
	s.Books.Close()
}

// say writes a line.
func (s *Shop) say(format string, args ...any) { fmt.Fprintf(s.out, format+"\n", args...) }
