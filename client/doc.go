// Package client is the Go client of parley, for services and tests. It stays
// connected, and brings every message of a room once and in order, or says that something is missing.
//
//	c, err := client.Connect(ctx, "wss://example.com/realtime", client.Options{
//		Token:          tokens.Get,
//		OnNotification: func(ctx context.Context, c *client.Client, m client.Notification) { ... },
//	})
//	defer c.Close()
//
//	room, err := c.Join(ctx, "orders", client.JoinOptions{
//		OnMessage: func(ctx context.Context, r *client.Room, m client.Message) { ... },
//	})
//	ack, err := room.Send(ctx, Tick{Price: 12}) // the server has stored it
//	refund, err := client.Call[Refund](ctx, c, "order.cancel", Order{ID: 7})
//
// # States
//
//	             +------------- delay over --------------+
//	             v                                       |
//	        connecting --connected received--> connected --lost--> waiting
//	             |                                       ^
//	             +------------- no connection -----------+
//
//	any --Close, a close code that says so--------------------> closed        the end
//	any --401, 403, 4100, Token failed with ErrUnauthorized---> unauthorized  the end
//
// The wait is random, up to 0.5 s after the first failure and doubling to 20 s;
// 30 s of connection start it anew. A "bye" of the server sets its own window, and Retry-After is
// respected. A connection that is silent for the server's ping interval is asked whether it lives.
//
// # What is promised
//
//   - Rooms stay joined over reconnects. What was missed comes to OnMessage, then
//     OnRecovered is called; if it cannot be had any more, OnGap, and OnHistory with the
//     newest. Doubles are dropped, a hole is filled before anything after it is handed out.
//   - A room in which the application has ended the membership is not joined again: JoinOptions.OnLeft tells it. One that the
//     application has joined for the client is joined like any other: Options.Joined has its handlers.
//   - Room.Send, Private and Broadcast wait for the connection, and are sent again with the same
//     id when it dies first; the server stores them once. If the user is another one then, or
//     anonymous and its session over, they fail with CodeDisconnected.
//   - What the server can't do just now (parley.CodeUnavailable, CodeClosing) is asked again with the same id, until Options.Timeout or ctx ends; so
//     are joins. Then nobody knows what became of it.
//   - Calls are never repeated: CodeDisconnected means that nobody knows whether the handler ran.
//   - Private messages and notifications of an identified user come once, also over reconnects, or
//     OnInboxGap says that some are missing. So does the broadcast, if the server keeps its history.
//   - MarkRead, MarkUnread and Archive are sent again until they are answered. What any device of the user
//     marks comes to OnMarked or, after a reconnect, to OnInboxState.
//   - Signals may be lost.
//
// # Positions
//
// Room.Position, Client.InboxPosition and Client.BroadcastPosition are where the handlers are, and can be kept:
// a service that restarts goes on from there, with JoinOptions.Position, Options.Inbox and
// Options.Broadcast. Keep them after a message was processed, in its handler, and every message is processed
// once; or, if the process dies in between, again.
//
// # The inbox
//
// Every notification and private message that is kept for the user is unread, read or archived. Options.OnInbox gets the newest with their
// state, OnNotification and OnPrivate what comes then, OnMarked what changes, and OnUnread the number for
// the badge. Client.InboxHistory pages back. If the server wants to know what the user's devices have, to
// send an e-mail else, it is told what the handlers have returned from.
//
//	OnUnread: func(_ context.Context, _ *client.Client, s client.ReadState) { badge.Set(s.Unread) },
//	...
//	state, err := c.MarkRead(ctx, client.Selection{UpTo: newest.Position})
//
// # Handlers
//
// They are called one at a time, in order, in a goroutine of the client's own. They may call every
// method of the client, and wait for answers: reading and writing goes on meanwhile. What comes meanwhile waits, up to
// Options.Buffer; with more, nothing is taken until the handlers have caught up, and the client
// resumes from their positions. What has no position (signals, rooms without history) is lost then, and OnError is
// told CodeSlow. A panic in a handler is not recovered: it ends the process, as in any goroutine.
package client
