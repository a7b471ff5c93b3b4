package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/parley-go/parley"
)

const (
	maxDelay      = 10 * time.Minute
	maxText       = 200   // characters
	maxPerUser    = 5     // reminders that wait
	maxReminders  = 1_000 // of everybody: an anonymous client is a new user each time
	notifyTimeout = 5 * time.Second
)

// Remind is what a client sends with the call "remind".
type Remind struct {
	Seconds int    `json:"seconds"`
	Text    string `json:"text"`
}

// Validate is asked by the hub before the handler runs.
func (r Remind) Validate() error {
	most := int(maxDelay / time.Second)
	switch {
	case r.Seconds < 1 || r.Seconds > most:
		return fmt.Errorf("seconds must be from 1 to %d", most)
	case strings.TrimSpace(r.Text) == "":
		return errors.New("text is empty: say what to remind of")
	case utf8.RuneCountInString(r.Text) > maxText:
		return fmt.Errorf("text is too long: %d characters at most", maxText)
	}
	return nil
}

// Reminded is the answer to Remind.
type Reminded struct {
	DueAt int64 `json:"dueAt"` // ms since 1970
}

// Reminder is the notification that comes when the time is over. Kind lets a
// page tell the notifications of an application apart.
type Reminder struct {
	Kind  string `json:"kind"` // "reminder"
	Text  string `json:"text"`
	SetAt int64  `json:"setAt"` // ms since 1970
}

// remind handles the call "remind".
func (c *chat) remind(_ context.Context, conn *parley.Conn, in Remind) (Reminded, error) {
	due, err := c.reminders.add(conn.UserID(), time.Duration(in.Seconds)*time.Second, in.Text)
	return Reminded{DueAt: due.UnixMilli()}, err
}

// reminders are the notifications that wait for their time. They end with the
// process; a service that must not forget them keeps them in a database.
type reminders struct {
	notify func(ctx context.Context, userID string, r Reminder) error

	ctx     context.Context // ends when the reminders are stopped
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu      sync.Mutex
	waiting map[string]int // guarded by mu: how many by user id, without zeros
	total   int            // guarded by mu
}

func newReminders(notify func(ctx context.Context, userID string, r Reminder) error) *reminders {
	ctx, cancel := context.WithCancel(context.Background())
	return &reminders{notify: notify, ctx: ctx, cancel: cancel, waiting: make(map[string]int)}
}

// add makes a reminder for a user and returns when it is due.
func (rs *reminders) add(userID string, delay time.Duration, text string) (time.Time, error) {
	now := time.Now()
	rs.mu.Lock()
	defer rs.mu.Unlock()
	switch {
	case rs.ctx.Err() != nil:
		return now, parley.NewError(parley.CodeClosing, "the server is shutting down: reconnect and try again")
	case rs.waiting[userID] >= maxPerUser:
		return now, parley.NewError(parley.CodeLimit, fmt.Sprintf("%d reminders wait already: try again after the next one", maxPerUser))
	case rs.total >= maxReminders:
		return now, parley.NewError(parley.CodeUnavailable, "too many reminders wait: try again later")
	}
	rs.waiting[userID]++
	rs.total++
	rs.running.Go(func() { rs.wait(userID, delay, Reminder{Kind: "reminder", Text: text, SetAt: now.UnixMilli()}) })
	return now.Add(delay), nil
}

func (rs *reminders) wait(userID string, delay time.Duration, r Reminder) {
	defer rs.done(userID)
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-rs.ctx.Done():
		return
	case <-timer.C:
	}
	ctx, cancel := context.WithTimeout(rs.ctx, notifyTimeout)
	defer cancel()
	// An anonymous user who has gone meanwhile is not worth a line in the log.
	if err := rs.notify(ctx, userID, r); err != nil && !errors.Is(err, parley.ErrNotFound) {
		slog.Warn("reminder was not sent", "user", userID, "error", err)
	}
}

func (rs *reminders) done(userID string) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	rs.total--
	if rs.waiting[userID]--; rs.waiting[userID] == 0 {
		delete(rs.waiting, userID)
	}
}

// stop forgets all reminders and waits until none is being sent any more.
func (rs *reminders) stop() {
	// With the lock, so that no reminder starts after Wait has looked.
	rs.mu.Lock()
	rs.cancel()
	rs.mu.Unlock()
	rs.running.Wait()
}
