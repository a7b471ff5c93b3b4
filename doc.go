// Package parley adds realtime messaging to an HTTP service: mount a [Hub],
// and every upgraded WebSocket is a managed client with rooms (chat with
// history and presence), private messages, broadcasts and notifications.
//
//	hub, err := parley.New(parley.Options{Authenticator: sessions})
//	mux.Handle("GET /realtime", hub)
//	mux.Handle("GET /parley.js", parley.ClientJS())
//
//	hub.Notify(ctx, "user-42", OrderShipped{ID: 7})
//	hub.Room("orders").Send(ctx, Tick{Price: 12})
//	hub.Broadcast(ctx, Maintenance{In: "5m"})
//	parley.On(hub, "order.cancel", cancelOrder)
//
// # What is promised
//
//   - All members of a room see its messages in the same order.
//   - A message of a topic with history (rooms, inboxes) reaches a client that
//     comes back within the retention exactly once, or the client is told that
//     it missed some ("recovered":false).
//   - Without history (signals, broadcasts by default): at most once.
//   - A send returns when the message is stored and queued for everybody
//     connected to this node; [Result] says for how many.
//   - A slow or dead client costs a bounded queue, and nobody else anything.
//   - A panic in application code closes at most the connection it served.
//
// # Extending it
//
// [Authenticator] says who connects, [Options.Authorize] who may do what,
// [Store] keeps history and presence, [Broker] connects several nodes. Package
// storetest checks your own Store or Broker against the contract. The protocol
// is in docs/protocol.md: any WebSocket client can speak it. A v1 client, such as those in js and client, names the
// subprotocol "parley.v1" and can resume; a plain one names none and gets the messages alone.
package parley
