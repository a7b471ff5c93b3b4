// Package parleytest is for tests of services that use parley: a real hub
// behind a real HTTP server, clients that say what they expect, and a network
// in memory whose connections can be broken in every way. No ports, no sleeps;
// inside of a testing/synctest bubble time costs nothing.
//
//	func TestOrderShipped(t *testing.T) {
//		hub, handler := newService(parleytest.Authenticator) // yours
//		srv := parleytest.Serve(t, hub, handler)
//		kim := srv.Connect(parleytest.User("kim"))
//		sam := srv.Connect(parleytest.User("sam"))
//
//		resp, err := srv.HTTPClient().Post("http://parley.test/orders/7/ship", "", nil) // notifies kim
//		...
//		kim.ExpectMessage(parleytest.Message{"type": "notification", "data": map[string]any{"order": 7}})
//		sam.ExpectNone()
//	}
//
// [NewServer] is the short form for a hub without a service around it. Everything ends
// with the test, by t.Cleanup.
//
// # Clients
//
// A [Client] speaks the protocol (docs/protocol.md) and nothing more: it sends
// what it is told, and keeps what comes until the test asks. Expectations are strict: the
// next message is the one that is meant.
//
//	Next, Expect, ExpectMessage   the next message, of a type, with certain fields
//	WaitFor                       the next one with certain fields, dropping others
//	ExpectNone, Drain             nothing has come or is under way; whatever has
//	Request, Call, Join           send something and return the answer to it
//	ExpectNotification            the next one, a notification of this kind
//	Mark, ExpectMarked            change the read state of messages in the inbox; it was changed
//	Unread, ExpectUnread          how many are unread
//	ExpectClose, CloseCode        the end of the connection
//
// Who joins a room also hears that others come and go, some of it later, because presence is
// collected for 250 ms. Tests that are not about this connect with [Ignore]; [Server.Pair] does.
//
// A failure shows which client it is, what was expected, what came, what came before, and whether
// the connection is still there.
//
// The Go client of package client connects through [Server.HTTPClient]:
//
//	kim, err := client.Connect(ctx, srv.URL, client.Options{
//		HTTPClient: srv.HTTPClient(parleytest.User("kim")),
//	})
//
// # Identities
//
// The [Authenticator] of this package believes [User] and [Identity], so that
// tests need no tokens. To test the authenticator of the service, give the hub that one, and
// send it what it needs by [Header] or [Offer]; [Server.ExpectRefused] is for what it must refuse.
//
// # Faults
//
// Every connection is a [Link]: [Client.Link] and [Server.Links] find it. It can be
// cut, at once or in the middle of a message, stalled, slowed down, delayed, be a black hole, or
// half-open. [Network.Refuse] and [Network.OnDial] decide what becomes of new connections.
//
//	kim.Link().Cut()                                // a reset
//	kim.Link().CutAfter(100, parleytest.ToClient)   // in the middle of a message
//	kim.Link().Stall(parleytest.ToClient)           // does not read: the hub's queue fills
//	kim.Link().VanishClient()                       // the laptop is closed: nobody is told
//	srv.Network.Refuse(true)                        // the server is down
//
// A Network is of use without a Server, too: wherever a net.Listener and a
// DialContext are taken.
//
// # In a bubble
//
// In a testing/synctest bubble, the server must be made inside of it, with the t of the
// bubble, so that it ends inside of it, too. Then a reconnect for 20 seconds
// takes no time, and deadlocks are found:
//
//	func TestReconnect(t *testing.T) {
//		synctest.Test(t, func(t *testing.T) {
//			srv := parleytest.NewServer(t, parley.Options{})
//			...
//			srv.Links("kim")[0].Cut()
//			srv.Hub.Room("tea").Send(ctx, "you missed this")
//			time.Sleep(time.Minute) // kim comes back
//			srv.Settle()
//			...
//		})
//	}
//
// With -race, the race detector of Go 1.26 itself may crash in a bubble (SIGSEGV, about one of some hundred
// runs): several processors run timers of the bubble at the same time. GOMAXPROCS=1 prevents that and finds the same races.
//
// Outside, everything works as well, in real time. Only ExpectNone, Drain and
// [Server.Settle] cover less there, as they say.
package parleytest
