package leaktest

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) { Main(m, "") }

func TestLeft(t *testing.T) {
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		<-end
	}()
	require.Contains(t, others(""), "leaktest.TestLeft.func1")
	require.Contains(t, others("parley-go/parley"), "leaktest.TestLeft.func1")
	require.Empty(t, others("example.com/other"))
	close(end)
	<-ended
	require.Empty(t, Left("parley-go/parley"))
}
