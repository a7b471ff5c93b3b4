//go:build race

package parley

// raceEnabled tells tests that count allocations: the race detector makes
// sync.Pool forget at random.
const raceEnabled = true
