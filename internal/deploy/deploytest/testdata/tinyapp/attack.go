package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// attack takes all that it can get of one resource, without end.
func attack(what string) {
	switch what {
	case "spin": // processors
		for range 64 {
			go func() {
				for {
				}
			}()
		}
		select {}
	case "fork": // processes
		for {
			if exec.Command("/app", "sleep", "1h").Start() != nil {
				time.Sleep(10 * time.Millisecond)
			}
		}
	case "chatter": // the log: three quarters of what a run may write in a second
		line := strings.Repeat("x", 1000)
		for tick := time.NewTicker(100 * time.Millisecond); ; <-tick.C {
			for range 300 {
				fmt.Println(line)
			}
		}
	case "hog": // memory
		var all [][]byte
		for {
			page := make([]byte, 16<<20)
			for i := 0; i < len(page); i += 4096 {
				page[i] = 1
			}
			all = append(all, page)
			time.Sleep(10 * time.Millisecond)
		}
	}
}

// exchange has what stands at paths of /top/mid/data exchanged while others open them: a file with a
// pipe that nobody writes to, a folder of the volume with a link to outside, and the folder that the
// volume is mounted in with such a link.
func exchange(outside string) {
	const data = "/top/mid/data"
	volume, err := unix.Open(data, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	fail(err)
	fail(os.WriteFile(data+"/canary", []byte("canary"), 0o644))
	fail(unix.Mkfifo(data+"/pipe", 0o644))
	fail(os.Mkdir(data+"/folder", 0o755))
	fail(os.WriteFile(data+"/folder/canary", []byte("canary"), 0o644))
	fail(os.Symlink(outside, data+"/link"))
	fail(os.Symlink(outside, "/top/link"))
	for {
		fail(unix.Renameat2(volume, "canary", volume, "pipe", unix.RENAME_EXCHANGE))
		fail(unix.Renameat2(volume, "folder", volume, "link", unix.RENAME_EXCHANGE))
		fail(unix.Renameat2(unix.AT_FDCWD, "/top/mid", unix.AT_FDCWD, "/top/link", unix.RENAME_EXCHANGE))
		time.Sleep(50 * time.Microsecond)
	}
}
