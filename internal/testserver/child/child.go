// Package child starts programs that do not outlive a test, also one that is killed.
package child

import (
	"os/exec"
	"runtime"
)

// Start starts a program and returns what is closed when it has ended. Its
// SysProcAttr.Pdeathsig comes when the thread ends that started it, so that thread
// waits for it.
func Start(cmd *exec.Cmd) (ended <-chan struct{}, err error) {
	started, done := make(chan error), make(chan struct{})
	go func() {
		runtime.LockOSThread()
		defer close(done)
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
	}()
	return done, <-started
}
