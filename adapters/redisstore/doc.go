// Package redisstore keeps the data of parley in Redis (6.2 or later) or Valkey, and carries messages between nodes
// by its pub/sub: alone, behind Sentinel, or as a Cluster.
//
//	client := redis.NewClient(&redis.Options{Addr: "localhost:6379"})
//	store, err := redisstore.New(client, redisstore.Options{})
//	hub, err := parley.New(parley.Options{Store: store, Broker: store, ...})
//
// # How it works
//
// Every change is one script, and so one atomic step. The calls of all goroutines are collected into
// pipelines: what comes while one is under way goes with the next, and calls of Append for the same topic share one run of the
// script, up to 16 topics too unless it is a Cluster. A lone call waits for nobody. Where many wait, callers wait to get in, for as long as their ctx
// allows; nothing is dropped. Scripts are sent by their hash, and whole to a server that does not know them.
// Functions of Redis are not used.
//
// # Errors
//
// An error of Append, AppendPublish, Mark or Overdue means that nobody knows whether it has taken place, unless it is an
// answer of Redis. None of these is repeated, not by the client either, whatever MaxRetries says; all other
// calls are, as the client is configured.
//
// No call takes longer than its ctx and Options.Timeout. For a Redis that stands still it matters besides that
// ReadTimeout of the client is not switched off: it is what frees a connection.
//
// # Time
//
// All ages, leases and windows are counted by the clock of the Redis server that has the topic, in milliseconds.
//
// # Memory
//
// Keys that are no longer needed go by themselves: the messages of a log with an age bound when all are too old (and up to a
// quarter of the age later), the rest of it as long again after that, an hour at least, and not while somebody is in the
// room; a topic that was read, but never written to, after an hour in which nobody asked for it;
// presence with its last lease; the status of a user after 30 days. Logs without an age bound and audiences stay.
//
// Set maxmemory-policy to noeviction: Redis refuses to write then when memory runs out, callers get an error that
// says so, and reading goes on. With any other policy it removes whole keys. What that costs is told, never invented: a log that has lost its
// head has another epoch, one that has lost its messages is empty; but members and what waits to be received vanish in
// silence. The Store logs a warning once if it finds such a policy.
//
// # Failover
//
// A replica that takes over may lack the last writes that were confirmed, and so may a server that was started again. Every log
// carries the name that Redis gives to the history of its writes (master_replid). Where the two differ, the log gets a new epoch at the
// next call: its messages stay, but clients that resume are told that something may be missing. No offset ever
// names two messages in one epoch. This also happens, without need, when a server gets its first replica, when
// it is started again without loss, and to the topics of a slot that moves within a Cluster. [Options.Durable] avoids all three, for
// servers that never lose anything. min-replicas-to-write and appendonly make real losses rare.
//
// # Layout
//
// The guide docs/guides/redis.md tells what the keys are and how other programs read them. They must not write them.
// A user of the server needs the rights ~prefix:* and &prefix:*, +@read +@write +@pubsub +@scripting +@connection +time,
// and in a Cluster +cluster; and +info: without it a failover is not noticed, and what was lost by it not told. For pub/sub PUBLISH,
// SUBSCRIBE, UNSUBSCRIBE and PING are used, in a Cluster also SPUBLISH, SSUBSCRIBE, SUNSUBSCRIBE and COMMAND INFO.
package redisstore
