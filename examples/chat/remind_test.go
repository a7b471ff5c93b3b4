package main

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-go/parley/internal/bubbletest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley"
)

// told collects what was notified.
type told chan string

func (to told) notify(_ context.Context, userID string, r Reminder) error {
	to <- userID + " " + r.Text
	return nil
}

func TestRemindersComeInTime(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		to := make(told, 10)
		rs := newReminders(to.notify)
		began := time.Now()
		_, err := rs.add("kim", 3*time.Second, "second")
		require.NoError(t, err)
		due, err := rs.add("kim", time.Second, "first")
		require.NoError(t, err)
		assert.Equal(t, began.Add(time.Second), due)

		assert.Equal(t, "kim first", <-to)
		assert.Equal(t, time.Second, time.Since(began))
		assert.Equal(t, "kim second", <-to)
		assert.Equal(t, 3*time.Second, time.Since(began))
		synctest.Wait()
		assert.Empty(t, rs.waiting, "nothing is kept of a reminder that has come")
		assert.Zero(t, rs.total)
	})
}

func TestRemindersHaveLimits(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		rs := newReminders(make(told, maxReminders).notify)
		defer rs.stop()
		code := func(userID string) parley.Code {
			_, err := rs.add(userID, time.Second, "x")
			var told *parley.Error
			if err == nil {
				return ""
			}
			require.ErrorAs(t, err, &told)
			return told.Code
		}
		for range maxPerUser {
			require.Empty(t, code("kim"))
		}
		assert.Equal(t, parley.CodeLimit, code("kim"))
		for rs.total < maxReminders {
			require.Empty(t, code(time.Duration(rs.total).String()))
		}
		assert.Equal(t, parley.CodeUnavailable, code("lee"))

		time.Sleep(time.Second) // of the bubble
		synctest.Wait()
		assert.Empty(t, code("kim"), "there is room again")
	})
}

func TestRemindersStop(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		to := make(told)
		rs := newReminders(to.notify)
		_, err := rs.add("kim", time.Hour, "x")
		require.NoError(t, err)
		began := time.Now()
		rs.stop()
		assert.Zero(t, time.Since(began), "stopping waits for no timer")
		_, err = rs.add("kim", time.Second, "x")
		assert.Error(t, err)
	})
}
