// Package integration holds tests against real programs: browsers, servers
// that are killed, networks that fail. They are skipped, with a message, where
// something is missing, unless PARLEY_REQUIRE names it (a list with commas, as
// in CI): chromium, ip, postgres, redis, or netns, which is
// the right to make network namespaces.
package integration
