package sqlstore

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime/debug"
	"strings"
)

// ErrClosed is wrapped by every error of a Store after Close.
var ErrClosed = errors.New("sqlstore: closed")

// commitError is the failure of a COMMIT: nobody knows what became of it.
type commitError struct{ error }

func (e commitError) Unwrap() error { return e.error }

// caught is deferred around calls of a driver or a hook in a goroutine of ours, where a panic
// would end the process: it makes *err of one.
func caught(err *error) {
	if v := recover(); v != nil {
		*err = panicError{fmt.Errorf("panic: %v\n%s", v, debug.Stack())}
	}
}

// panicError is what became of a panic.
type panicError struct{ error }

// protect calls f, and makes an error of a panic.
func protect(f func() error) (err error) {
	defer caught(&err)
	return f()
}

// state returns the SQLSTATE of an error, "" if it has none.
func state(err error) string {
	var e interface{ SQLState() string }
	if errors.As(err, &e) {
		return e.SQLState()
	}
	return ""
}

// clash reports whether a transaction was rolled back for the sake of another one, and
// may be repeated as it is.
func clash(err error) bool {
	switch state(err) {
	case "40001", "40P01", "55P03": // serialization, deadlock, lock not available
		return true
	case "":
		text := err.Error()
		return strings.Contains(text, "SQLITE_BUSY") || strings.Contains(text, "SQLITE_LOCKED") || strings.Contains(text, "database is locked") ||
			strings.Contains(text, "database table is locked")
	}
	return false
}

// refused reports whether it may be the fault of one write that a transaction failed,
// so that the others are worth repeating without it.
func refused(err error) bool {
	var lost net.Error
	var commit commitError
	switch {
	case errors.As(err, &commit), errors.As(err, &lost), errors.Is(err, driver.ErrBadConn), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), errors.Is(err, ErrClosed), clash(err):
		return false
	}
	for _, class := range sameForAll {
		if strings.HasPrefix(state(err), class) {
			return false
		}
	}
	return true
}

// sameForAll are classes of SQLSTATEs: connection, state of the transaction (as that of a server that only
// reads), rights and syntax, resources, operator, system.
var sameForAll = []string{"08", "25", "28", "42", "53", "57", "58"}

// wrap names the package. Drivers have errors of their own for a query that ctx
// ended: then the result wraps ctx.Err(), too.
func wrap(ctx context.Context, err error) error {
	if ended := ctx.Err(); ended != nil && !errors.Is(err, ended) {
		return fmt.Errorf("sqlstore: %w (%w)", ended, err)
	}
	return fmt.Errorf("sqlstore: %w", err)
}
