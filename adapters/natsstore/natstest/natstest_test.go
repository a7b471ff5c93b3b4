package natstest_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/adapters/natsstore/natstest"
	"github.com/parley-go/parley/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m, "") }

func roundTrip(t *testing.T, from, to *nats.Conn) {
	t.Helper()
	sub, err := to.SubscribeSync("greeting")
	require.NoError(t, err)
	require.NoError(t, to.Flush())
	// The other server of a cluster hears of the subscription a little later.
	for end := time.Now().Add(time.Minute); ; {
		require.NoError(t, from.Publish("greeting", []byte("hello")))
		m, err := sub.NextMsg(100 * time.Millisecond)
		if err == nil {
			require.Equal(t, "hello", string(m.Data))
			return
		}
		require.True(t, time.Now().Before(end), "no message came: %v", err)
	}
}

func TestRestartKeepsPortAndStreams(t *testing.T) {
	s := natstest.Start(t, natstest.JetStream(t))
	url := s.URL
	js, err := jetstream.New(s.Conn(t))
	require.NoError(t, err)
	_, err = js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}})
	require.NoError(t, err)
	_, err = js.Publish(t.Context(), "s.1", []byte("kept"))
	require.NoError(t, err)

	s.Shutdown()
	_, err = nats.Connect(url)
	require.ErrorIs(t, err, nats.ErrNoServers)
	s.Restart()
	require.Equal(t, url, s.URL)
	js, err = jetstream.New(s.Conn(t))
	require.NoError(t, err)
	stream, err := js.Stream(t.Context(), "S")
	require.NoError(t, err)
	m, err := stream.GetMsg(t.Context(), 1)
	require.NoError(t, err)
	require.Equal(t, "kept", string(m.Data))
}

func TestCluster(t *testing.T) {
	servers := natstest.StartCluster(t, 3)
	roundTrip(t, servers[1].Conn(t), servers[2].Conn(t))
	servers[1].Restart()
	roundTrip(t, servers[1].Conn(t), servers[2].Conn(t))
}

func TestRelayBlocks(t *testing.T) {
	s := natstest.Start(t)
	relay := natstest.StartRelay(t, s)
	conn, err := nats.Connect(relay.URL)
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	roundTrip(t, conn, s.Conn(t))
	require.Equal(t, 1, relay.Conns())
	sub, err := s.Conn(t).SubscribeSync("late")
	require.NoError(t, err)
	relay.Block(true)
	require.NoError(t, conn.Publish("late", []byte("x")))
	require.Error(t, conn.FlushTimeout(50*time.Millisecond))
	require.True(t, conn.IsConnected(), "nothing tells that it is blocked")
	relay.Block(false)
	require.NoError(t, conn.Flush())
	_, err = sub.NextMsg(time.Minute)
	require.NoError(t, err)
}

func TestLameDuck(t *testing.T) {
	servers := natstest.StartCluster(t, 2)
	moved := make(chan struct{})
	conn := servers[0].Conn(t, nats.ReconnectWait(time.Millisecond), nats.ReconnectHandler(func(*nats.Conn) { close(moved) }))
	servers[0].LameDuck()
	<-moved
	require.Equal(t, servers[1].URL, conn.ConnectedUrl())
}
