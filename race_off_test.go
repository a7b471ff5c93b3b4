//go:build !race

package parley

const raceEnabled = false
