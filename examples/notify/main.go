// Command notify is an ordinary service, a small shop with a session login,
// whose users have an inbox: what happens to their orders, and what the shop
// announces, reaches every window and device at once, is there later for who
// was away, and is read on all of them when it is read on one. All of it is in
// the shop's own database and survives a crash.
//
//	go run ./examples/notify
//
// DB is the path of the SQLite file; by default shop.db in a directory
// parley-shop of the user's cache directory. DATABASE_URL, if set, is a
// PostgreSQL database to use instead. It is one process at a time: several
// would need a parley.Broker. PORT (default 8080, 0 picks a free one)
// and HOST (default 127.0.0.1) choose the address.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/parley-go/parley/examples/internal/site"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "parley notify:", err)
		os.Exit(1)
	}
}

func run() (err error) {
	db, err := openDatabase(os.Getenv("DATABASE_URL"), os.Getenv("DB"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	fmt.Println("parley notify: the database is", db.where)
	s, err := newShop(context.Background(), db, os.Stdout)
	if err != nil {
		return err
	}
	defer s.close()
	return site.Run(os.Stdout, "parley notify", s.handler, s)
}
