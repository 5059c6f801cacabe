package main

import (
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// A19: a runner of Drone's that is killed takes the reading end of its steps'
// output along. The harness must live on to tear down, and be told once.
func TestA19_OutputThatNobodyReadsEndsNothing(t *testing.T) {
	if os.Getenv("CCCI_TEST_SURVIVE") != "" {
		told := 0
		out := surviving(os.Stdout, func() { told++ })
		io.Copy(io.Discard, os.Stdin) // until the reader of the output is gone
		for range 3 {
			if n, err := out.Write([]byte("still here\n")); n != 11 || err != nil {
				os.Exit(20)
			}
		}
		os.Exit(10 + told)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), "CCCI_TEST_SURVIVE=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	out.Close()
	in.Close()
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 11 {
		t.Errorf("it ended with %v (%s), want to be told once and to go on", cmd.ProcessState, said.String())
	}
}
