package parleytest_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley"
	"github.com/parley-go/parley/client"
	"github.com/parley-go/parley/parleytest"
)

// Two clients in one room.
func Example() {
	t := newT() // in a test: its *testing.T
	defer t.end()

	srv := parleytest.NewServer(t, parley.Options{})
	kim, sam := srv.Pair("tea")

	kim.Send(parleytest.Message{"type": "message", "content": "Hello!"})
	m := sam.Expect("message")
	fmt.Println(m.Str("username"), "says", m.Str("content"))

	kim.Expect("message") // everybody in the room gets it
	kim.ExpectNone()
	sam.ExpectNone()
	// Output: kim says Hello!
}

// A service with routes of its own that notifies its users.
func ExampleServe() {
	t := newT()
	defer t.end()

	hub, err := parley.New(parley.Options{Authenticator: parleytest.Authenticator})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /realtime", hub)
	mux.HandleFunc("POST /orders/{id}/ship", func(_ http.ResponseWriter, r *http.Request) {
		_, _ = hub.Notify(r.Context(), "kim", map[string]string{"shipped": r.PathValue("id")})
	})

	srv := parleytest.Serve(t, hub, mux)
	kim := srv.Connect(parleytest.User("kim"))
	sam := srv.Connect(parleytest.User("sam"))

	resp, err := srv.HTTPClient().Post("http://parley.test/orders/7/ship", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()

	fmt.Println(kim.Expect("notification")["data"])
	sam.ExpectNone()
	// Output: map[shipped:7]
}

// A notification stays unread until one of the user's devices says otherwise, and all of them know.
func ExampleClient_Mark() {
	t := newT()
	defer t.end()

	srv := parleytest.NewServer(t, parley.Options{})
	phone := srv.Connect(parleytest.User("kim"))
	laptop := srv.Connect(parleytest.User("kim"))
	_, err := srv.Hub.Notify(context.Background(), "kim", map[string]int{"order": 7},
		parley.WithID("order-7"), parley.WithKind("order.shipped"))
	if err != nil {
		t.Fatal(err)
	}

	shipped := phone.ExpectNotification("order.shipped", map[string]int{"order": 7})
	laptop.ExpectNotification("order.shipped", nil)
	fmt.Println(shipped.Str("id"), "unread:", laptop.Unread())

	phone.Mark("read", shipped)
	laptop.ExpectMarked("read", shipped)
	laptop.ExpectUnread(0)

	later := srv.Connect(parleytest.User("kim"))
	fmt.Println(later.Inbox().State(shipped), "unread:", later.Unread())
	// Output:
	// order-7 unread: 1
	// read unread: 0
}

// A typed handler, and what comes before its reply.
func ExampleClient_Call() {
	t := newT()
	defer t.end()

	srv := parleytest.NewServer(t, parley.Options{})
	parley.On(srv.Hub, "sum", func(_ context.Context, _ *parley.Conn, in []int) (sum int, err error) {
		for _, n := range in {
			sum += n
		}
		return sum, nil
	})
	kim := srv.Connect(parleytest.User("kim"))

	fmt.Println(kim.Call("sum", []int{1, 2, 3}).Int("data"))
	fmt.Println(kim.Call("product", []int{1, 2, 3}).Str("code"))
	// Output:
	// 6
	// unknown_method
}

// Whom the service must not let in.
func ExampleServer_ExpectRefused() {
	t := newT()
	defer t.end()

	srv := parleytest.NewServer(t, parley.Options{
		Authenticator: parley.AuthenticatorFunc(func(r *http.Request) (parley.Identity, error) {
			if parley.Token(r) != "valid" {
				return parley.Identity{}, parley.NewError(parley.CodeForbidden, "log in first")
			}
			return parley.Identity{ID: "kim"}, nil
		}),
	})
	fmt.Println(srv.ExpectRefused(http.StatusForbidden, parleytest.Header("Authorization", "Bearer forged")))
	fmt.Println(srv.Connect(parleytest.Header("Authorization", "Bearer valid")).UserID())
	// Output:
	// log in first
	// kim
}

// A connection that dies in the middle of a message, and the session that survives it.
func ExampleLink_CutAfter() {
	t := newT()
	defer t.end()

	srv := parleytest.NewServer(t, parley.Options{})
	kim := srv.Connect(parleytest.User("kim"))
	kim.Link().CutAfter(20, parleytest.ToClient)
	_, err := srv.Hub.Notify(context.Background(), "kim", "your order has been shipped")
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println(kim.CloseCode())

	again := kim.Reconnect()
	fmt.Println(again.Connected().Bool("resumed"), again.ID() == kim.ID())
	fmt.Println(again.Inbox().List("messages")[0].Str("data"))
	// Output:
	// 1006
	// true true
	// your order has been shipped
}

// The Network serves everything that takes a listener and a dial function.
func ExampleNetwork() {
	network := parleytest.NewNetwork()
	server := &http.Server{Handler: http.NotFoundHandler()}
	listener := network.Listen()
	go func() { _ = server.Serve(listener) }()
	defer func() { _ = server.Close() }()

	web := http.Client{Transport: &http.Transport{DialContext: network.Dial, DisableKeepAlives: true}}
	resp, err := web.Get("http://anything.test/")
	if err != nil {
		fmt.Println(err)
		return
	}
	_ = resp.Body.Close()
	fmt.Println(resp.Status)

	network.Refuse(true)
	_, err = web.Get("http://anything.test/")
	fmt.Println(err)
	// Output:
	// 404 Not Found
	// Get "http://anything.test/": dial tcp 127.0.0.1:80: connection refused
}

// The Go client comes back over a network that fails, and misses nothing; in a
// bubble its waiting takes no time.
func TestGoClientComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := parleytest.NewServer(t, parley.Options{})
		kim, err := client.Connect(t.Context(), srv.URL, client.Options{
			HTTPClient: srv.HTTPClient(parleytest.User("kim")),
		})
		require.NoError(t, err)
		defer kim.Close()
		var got []string
		_, err = kim.Join(t.Context(), "tea", client.JoinOptions{
			OnMessage: func(_ context.Context, _ *client.Room, m client.Message) { got = append(got, string(m.Content)) },
		})
		require.NoError(t, err)
		send := func(v int) {
			_, err := srv.Hub.Room("tea").Send(t.Context(), v)
			require.NoError(t, err)
		}

		send(1)
		srv.Settle()
		require.Equal(t, []string{"1"}, got)

		srv.Links("kim")[0].Cut()
		srv.Network.Refuse(true) // the server is down
		send(2)
		time.Sleep(time.Minute)
		require.NotEqual(t, client.StateConnected, kim.State())

		srv.Network.Refuse(false)
		send(3)
		time.Sleep(time.Minute)
		srv.Settle() // also orders the writes of the handler before the reads here
		require.Equal(t, []string{"1", "2", "3"}, got)
		require.True(t, kim.Identity().Resumed)
	})
}
