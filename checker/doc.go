// Package checker proves the delivery promises of a hub: it drives hubs and
// clients through a seeded schedule of sends, joins, broken connections, a
// failing Store, a lossy Broker and restarts, writes down everything that is
// asked for and everything that is seen, and judges that history afterwards
// by the properties P1 to P10 (docs/checker.md).
//
// Time is that of a testing/synctest bubble and the network is in memory: an
// hour of faults takes a second. A failing seed is shrunk to the few
// operations that it takes, and printed.
package checker
