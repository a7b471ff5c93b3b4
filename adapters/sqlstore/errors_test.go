package sqlstore

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
)

type stateError string

func (e stateError) Error() string    { return "state " + string(e) }
func (e stateError) SQLState() string { return string(e) }

// Which failures of a transaction may be the fault of one of its writes.
func TestRefused(t *testing.T) {
	for _, err := range []error{stateError("23505"), stateError("22001"), stateError("P0001"), stateError("1"), errors.New("constraint failed")} {
		require.True(t, refused(fmt.Errorf("wrapped: %w", err)), "%v", err)
	}
	for _, err := range []error{
		stateError("08006"), stateError("25006"), stateError("42P01"), stateError("53300"), stateError("57P01"), stateError("40P01"),
		commitError{stateError("23505")}, driver.ErrBadConn, io.EOF, context.DeadlineExceeded, ErrClosed, errors.New("database is locked"),
	} {
		require.False(t, refused(fmt.Errorf("wrapped: %w", err)), "%v", err)
	}
}
