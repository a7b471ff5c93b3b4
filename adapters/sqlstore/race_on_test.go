//go:build race

package sqlstore_test

// raceDetector tells whether it is on: it makes SQLite, which is Go here, ten times slower.
const raceDetector = true
