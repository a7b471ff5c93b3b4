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
	read  func() int64 // the clock of this node
	ask   bool         // the database has another clock than this node
	ahead atomic.Int64 // of the database
	at    atomic.Int64 // when they were compared last, by the clock of this node
}

func (c *clock) init(d Dialect) {
	start := time.Now()
	c.read, c.ask = func() int64 { return time.Now().UnixMilli() }, d == PostgreSQL
	if c.ask { // steps of the clock of this node mean nothing between two comparisons
		c.read = func() int64 { return start.UnixMilli() + time.Since(start).Milliseconds() }
	}
}

func (c *clock) now() int64 { return c.read() + c.ahead.Load() }

// stale reports whether it is time for another comparison.
func (c *clock) stale() bool { return c.read()-c.at.Load() > time.Minute.Milliseconds() }

// sync compares the clocks. The answer is taken to be of the middle between question and answer.
func (c *clock) sync(ctx context.Context, x executor) error {
	start := c.read()
	c.at.Store(start)
	if !c.ask {
		return nil
	}
	var theirs int64
	err := query(ctx, x, `SELECT (extract(epoch from clock_timestamp()) * 1000)::bigint`, nil, func(r *sql.Rows) error { return r.Scan(&theirs) })
	if err == nil {
		c.ahead.Store(theirs - start - (c.read()-start)/2)
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
