package redisstore

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// A job that is divided may end before it is sent: the callers get an error then.
func TestDividedJobFails(t *testing.T) {
	j := &job{quick: true}
	var requests []*request
	for range 2 {
		r := &request{merge: &appendCall{}, done: make(chan struct{})}
		requests = append(requests, r)
		j.parts = append(j.parts, &part{requests: []*request{r}, job: j, names: &topicNames{}})
	}
	for _, one := range j.split() {
		require.True(t, one.quick)
		require.Nil(t, one.finish())
	}
	for _, r := range requests {
		<-r.done
		require.ErrorIs(t, r.err, errTimeout)
	}
}
