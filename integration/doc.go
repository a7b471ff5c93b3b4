// Package integration holds tests against real programs: browsers and
// servers. They are skipped, with a message, where a program is missing,
// unless PARLEY_REQUIRE names it (a list with commas, as in CI).
package integration
