//go:build !race

// Package race tells tests whether the race detector is on, which makes some of them
// ten times slower. .ci/test runs those once more without it.
package race

// Detector says whether it is on.
const Detector = false
