package sqlstore

import (
	"context"
	"database/sql"
	"sync/atomic"
	"time"
)

// clock tells the time of the database, in milliseconds since 1970: that of
// this node plus the difference found last. So nodes with clocks that disagree
// agree on ages and leases.
type clock struct {
	ahead atomic.Int64 // of the database, in milliseconds
	moved atomic.Int64 // by tests, in milliseconds
	at    atomic.Int64 // when it was compared last, by the clock of this node
}

func (c *clock) now() int64 { return time.Now().UnixMilli() + c.ahead.Load() + c.moved.Load() }

// stale reports whether it is time for another comparison.
func (c *clock) stale() bool { return time.Now().UnixMilli()-c.at.Load() > time.Minute.Milliseconds() }

// sync compares the clocks. The answer is taken to be of the middle between question and answer.
func (c *clock) sync(ctx context.Context, x executor, d Dialect) error {
	start := time.Now()
	c.at.Store(start.UnixMilli())
	if d == SQLite {
		return nil // the machine's own
	}
	var theirs int64
	err := query(ctx, x, `SELECT (extract(epoch from clock_timestamp()) * 1000)::bigint`, nil, func(r *sql.Rows) error { return r.Scan(&theirs) })
	if err == nil {
		c.ahead.Store(theirs - start.Add(time.Since(start)/2).UnixMilli())
	}
	return err
}

// millis rounds up, so that what is positive stays so.
func millis(d time.Duration) int64 {
	n := d.Milliseconds()
	if time.Duration(n)*time.Millisecond < d {
		n++
	}
	return n
}
