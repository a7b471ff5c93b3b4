package parley

// RaceEnabled is raceEnabled for the tests of package parley_test.
const RaceEnabled = raceEnabled
