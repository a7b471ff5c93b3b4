package checker

// KicksEverywhere tells tests which rules are in force.
const KicksEverywhere = kicksEverywhere
