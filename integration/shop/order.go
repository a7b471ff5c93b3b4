package shop

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"

	"github.com/parley-go/parley/adapters/sqlstore"
)

// workers is how many orders are taken at the same time.
const workers = 2

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
	if err := s.enter(ctx, tx, id, customer); err != nil {
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

// relay sends what was enqueued, until ctx ends.
func (s *Shop) relay(ctx context.Context) {
	if err := s.Store.Relay(ctx, s.Hub); err != nil && ctx.Err() == nil {
		fmt.Fprintln(s.cfg.log(), "the relay has ended:", err)
	}
}
