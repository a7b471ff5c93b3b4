package sqlstore

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
)

// ErrClosed is wrapped by every error of a Store after Close.
var ErrClosed = errors.New("sqlstore: closed")

// commitError is the failure of a COMMIT: nobody knows what became of it.
type commitError struct{ error }

func (e commitError) Unwrap() error { return e.error }

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
	switch s := state(err); {
	case s == "":
		return true
	default:
		// 08 connection, 53 resources, 57 operator, 58 system, 42 syntax or rights: the same for all.
		return !strings.Contains("08 53 57 58 42", s[:2])
	}
}

// wrap names the package. Drivers have errors of their own for a query that ctx
// ended: then the result wraps ctx.Err(), too.
func wrap(ctx context.Context, err error) error {
	if ended := ctx.Err(); ended != nil && !errors.Is(err, ended) {
		return fmt.Errorf("sqlstore: %w (%w)", ended, err)
	}
	return fmt.Errorf("sqlstore: %w", err)
}
