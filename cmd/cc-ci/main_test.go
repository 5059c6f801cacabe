package main

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain lets this test binary stand in for cc-ci in the scripts, so that they
// test, and measure the coverage of, exactly the code under test. Tests that need
// a static program to put into containers build one for themselves.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"cc-ci": main})
}
