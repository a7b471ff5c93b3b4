// Package redistest runs real Redis servers for tests, alone, watched by
// Sentinels, or as a Cluster: the redis-server (or valkey-server) that is in PATH, on free ports of the
// loopback interface, with the data in temporary directories. All processes end with
// the test, or with the test binary, however that ends.
//
// Nothing is saved to disk unless the test asks for it, so a killed server comes back empty.
//
// Without an installed server the test is skipped, or fails if the environment
// variable PARLEY_REQUIRE, a list with commas, names redis.
//
// A [Proxy] stands between a client and a server, and stalls, swallows or cuts what passes.
//
// The methods fail the test when something goes wrong; call them from its goroutine.
package redistest
