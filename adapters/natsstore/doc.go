// Package natsstore is a [parley.Broker] over core NATS: it carries messages between the nodes of a hub. What is to be kept needs
// a Store beside it: the adapters sqlstore (PostgreSQL) or redisstore.
//
//	conn, err := natsstore.Connect("nats://n1:4222,nats://n2:4222", nats.UserCredentials("app.creds"))
//	broker, err := natsstore.New(conn, natsstore.Options{})
//	store, err := sqlstore.New(db, sqlstore.Options{Dialect: sqlstore.PostgreSQL})
//	hub, err := parley.New(parley.Options{Store: store, Broker: broker, ...})
//
// To end: hub.Shutdown, broker.Close, conn.Close.
//
// # What it promises
//
// NATS delivers at most once, and tells nobody what it has not delivered: over a reconnect publishers see no error. This Broker does not
// deliver more, but it tells.
//
//   - Publish returns when the server has confirmed, or with an error. Publishers that come at the same time share a confirmation.
//   - All that a node may have missed is told to its hub by deliver(nil): after every reconnect, when a subscription or the process could not keep
//     up, and when a part of a large payload is missing. The hub then asks the Store.
//   - Subscribe returns when the server has confirmed. Subscriptions outlive every loss of the connection.
//   - A server that is silent makes Publish fail, within Options.Timeout; it holds up no goroutine of the hub beyond its ctx.
//
// In a cluster, the confirmation is that of the own server; the others hear of a subscription a little later. So each subscription is
// told by deliver(nil) once more, 0.5 s later. What remains to the hub, which asks the Store every Options.SyncInterval, are
// messages that servers lose between each other.
//
// # Subjects
//
// A topic is a subject of two tokens or more: Options.Prefix and one token in which bytes other than letters, digits, -, _ and / are
// written %XX: "room/café" is parley.room/caf%C3%A9. Payloads carry a header of 4 bytes. What others publish there is counted (Stats.Garbage),
// logged once and ignored. Who may publish to these subjects may speak for a node: allow parley.> to nobody else.
//
// # No Store
//
// JetStream is not made a Store: a log with offsets could be kept at about 14,000 appends a second on two cores, but audiences in order,
// overdue entries, retention by topic and read state in the same step could not, or only by a copy of everything in each node. The
// figures are in docs/decisions/0010-nats-carries-and-does-not-keep.md.
package natsstore
