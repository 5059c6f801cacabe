//go:build race

package race

// Detector says whether it is on.
const Detector = true
