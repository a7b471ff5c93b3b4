package sqlstore_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley"
	"github.com/parley-go/parley/adapters/sqlstore"
)

var large = flag.Bool("large", false, "run the benchmarks that need 1,000,000 stored notifications, which take a minute to write")

var inbox = parley.Retention{Messages: 1000, Bytes: 1 << 20, Age: 30 * 24 * time.Hour}

// notification returns an entry as the hub makes it for a Notify with an id.
func notification(id string) parley.Entry {
	return parley.Entry{
		Key: "\x00" + id, Time: time.Now().UnixMilli(), Unread: true,
		Data: fmt.Appendf(nil, `{"type":"notification","id":%q,"data":{"text":"%0100d"}}`, id, 0),
	}
}

var benchDatabases = databases[:1:1]

func init() { benchDatabases = append(benchDatabases, databases[2]) } // a file and a server: what has to be durable

// connections are those of the pool in which callers without group commit share a server.
const connections = 20

// Rows a second. Without a Store: one INSERT in a transaction of its own after the other, and
// from many callers at once, over the same pool of connections. With one: Appends each in a
// transaction of its own, and Appends that share transactions.
func BenchmarkGroupCommit(b *testing.B) {
	for _, d := range benchDatabases {
		for _, callers := range []int{1, 1000} {
			b.Run(fmt.Sprintf("%s/INSERT per transaction/callers=%d", d.name, callers), func(b *testing.B) {
				w := d.open(b)
				w.db.SetMaxOpenConns(map[sqlstore.Dialect]int{sqlstore.SQLite: 1, sqlstore.PostgreSQL: connections}[w.dialect]) // SQLite has one writer
				w.node(b)
				statement := map[sqlstore.Dialect]string{
					sqlstore.SQLite:     `INSERT INTO plain (id, data) VALUES (?, ?)`,
					sqlstore.PostgreSQL: `INSERT INTO plain (id, data) VALUES ($1, $2)`,
				}[w.dialect]
				_, err := w.db.Exec(`CREATE TABLE plain (id bigint PRIMARY KEY, data bytea)`)
				require.NoError(b, err)
				data := notification("x").Data
				fromMany(b, callers, func(i int64) error {
					_, err := w.db.Exec(statement, i, data)
					return err
				})
			})
		}
		for _, rows := range []int{1, 1000} {
			b.Run(d.name+"/"+map[int]string{1: "Append per transaction", 1000: "group commit"}[rows]+"/callers=1000", func(b *testing.B) {
				w := d.open(b)
				w.db.SetMaxOpenConns(connections)
				w.opts.BatchRows = rows
				s := w.node(b)
				fromMany(b, 1000, func(i int64) error {
					_, err := s.Append(context.Background(), fmt.Sprint("user/", i%1000), inbox, []parley.Entry{notification(fmt.Sprint(i))})
					return err
				})
			})
		}
	}
}

// fromMany calls f b.N times from a number of callers, and reports how many rows a second that makes.
func fromMany(b *testing.B, callers int, f func(i int64) error) {
	var next atomic.Int64
	var wg sync.WaitGroup
	b.ResetTimer()
	for range callers {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
				if err := f(i); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}

// load stores ten notifications for each of n/10 users.
func load(b *testing.B, s *sqlstore.Store, n int) {
	b.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 200 {
		wg.Go(func() {
			for u := next.Add(1); u <= int64(n/10); u = next.Add(1) {
				var list []parley.Entry
				for i := range 10 {
					list = append(list, notification(fmt.Sprintf("%d-%d", u, i)))
				}
				if _, err := s.Append(context.Background(), fmt.Sprint("user/", u), inbox, list); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// settle makes the server do now what the load has left it to do: writing back a gigabyte is not what is measured.
func settle(b *testing.B, w *world) {
	b.Helper()
	if w.dialect != sqlstore.PostgreSQL {
		return
	}
	for _, statement := range []string{"VACUUM (ANALYZE)", "CHECKPOINT"} {
		_, err := w.db.Exec(statement)
		require.NoError(b, err)
	}
}

// What one user waits for, with few and with many notifications stored, ten of each user.
func BenchmarkStored(b *testing.B) {
	for _, d := range benchDatabases {
		for _, n := range []int{10_000, 1_000_000} {
			if n > 10_000 && (testing.Short() || !*large) {
				continue
			}
			var once sync.Once
			var w *world
			var s *sqlstore.Store
			open := func(outer *testing.B) {
				once.Do(func() {
					w = d.open(outer)
					s = w.node(outer)
					load(outer, s, n)
					settle(outer, w)
				})
			}
			b.Run(fmt.Sprintf("%s/%d", d.name, n), func(b *testing.B) {
				open(b)
				user := func() string { return fmt.Sprint("user/", 1+rand.IntN(n/10)) }
				b.Run("connect", func(b *testing.B) {
					for b.Loop() {
						page, err := s.Read(context.Background(), user(), parley.Query{Limit: 100, Marks: true})
						if err != nil || len(page.Entries) < 10 {
							b.Fatal(err, len(page.Entries))
						}
					}
				})
				b.Run("Notify", func(b *testing.B) {
					i := 0
					for b.Loop() {
						i++
						if _, err := s.Append(context.Background(), user(), inbox, []parley.Entry{notification(fmt.Sprint(i, time.Now()))}); err != nil {
							b.Fatal(err)
						}
					}
				})
			})
		}
	}
}
