package main

import (
	"fmt"
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain lets this test binary stand in for cc-ci in the scripts, so that they
// test, and measure the coverage of, exactly the code under test. Tests that need
// a static program to put into containers build one for themselves.
func TestMain(m *testing.M) {
	testscript.Main(tidy{m}, map[string]func(){"cc-ci": main})
}

// tidy looks at the daemon after all tests. They run side by side, and what
// bears no run's name is nobody's in particular.
type tidy struct{ tests *testing.M }

func (m tidy) Run() int {
	code := m.tests.Run()
	left, err := build.close()
	if err != nil {
		left = append(left, err.Error())
	}
	for _, what := range left {
		fmt.Fprintln(os.Stderr, "left on the daemon:", what)
		code = max(code, 1)
	}
	return code
}
