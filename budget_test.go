package parley

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// F5: everybody is slow at the same time, and each has messages of its own.
// What waits stays within the budget, and who has been behind the longest goes first.
func TestQueueBudget(t *testing.T) {
	const each, size = 40, 1000
	bubble(t, func(t *testing.T) {
		opts := slowOptions()
		opts.QueueBudget = slowQueue * 5 / 2
		s := serve(t, opts)
		reader := s.connect(dialOptions{v1: true, user: "reader"})
		reader.expect("inbox")
		payload := strings.Repeat("x", size)
		user := func(i int) string { return fmt.Sprint("slow", i) }
		for i := range 10 {
			s.stall(user(i))
			for range each {
				_, err := s.Private(t.Context(), user(i), payload)
				require.NoError(t, err)
			}
			elapse(2 * budgetTick)
			waiting := 0
			for j := range i + 1 {
				for _, c := range s.User(user(j)) {
					waiting += c.out.queued()
				}
			}
			require.LessOrEqual(t, waiting, opts.QueueBudget)
		}
		var left []int
		for i := range 10 {
			if len(s.User(user(i))) > 0 {
				left = append(left, i)
			}
		}
		require.Equal(t, []int{7, 8, 9}, left, "three of 40 KB fit, the ones behind for the shortest time")
		require.EqualValues(t, 7, s.Stats().ClosedOverBudget)
		require.EqualValues(t, 7, s.Stats().ClosedSlow)
		_, err := s.Private(t.Context(), "reader", "fine")
		require.NoError(t, err)
		require.Equal(t, "fine", reader.expect("private")["message"])
	})
}

// A message that waits for many takes its memory once: nobody is closed for that.
func TestQueueBudgetCountsSharedMessagesOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		opts := slowOptions()
		opts.QueueBudget = slowQueue * 2
		s := serve(t, opts)
		for i := range 10 {
			s.stall(fmt.Sprint("slow", i))
		}
		for range 40 {
			_, err := s.Room("r").Send(t.Context(), strings.Repeat("x", 1000))
			require.NoError(t, err)
			synctest.Wait()
		}
		elapse(4 * budgetTick)
		require.Equal(t, 10, s.Stats().Connections)
		require.Zero(t, s.Stats().ClosedOverBudget)
		require.Positive(t, s.budgetPauseOf(), "and they are not counted every second")
	})
}

// budgetPauseOf waits until nothing runs, so that the background goroutine does not either.
func (h *Hub) budgetPauseOf() int {
	synctest.Wait()
	return h.budget.pause
}

// A burst that is being read is nobody's fault, however large it is.
func TestQueueBudgetIgnoresBursts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		opts := slowOptions()
		opts.QueueBudget = slowQueue
		h := newHub(t, opts)
		all := make([]*direct, 20)
		for i := range all {
			all[i] = attach(t, h, directOptions{user: fmt.Sprint(i), discard: true})
		}
		for range 5 {
			for i := range all {
				for range 50 {
					_, err := h.Private(t.Context(), fmt.Sprint(i), strings.Repeat("x", 1000))
					require.NoError(t, err)
				}
			}
			time.Sleep(budgetTick)
		}
		require.Zero(t, h.Stats().ClosedSlow)
	})
}
