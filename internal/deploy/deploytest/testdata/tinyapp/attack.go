package main

import (
	"fmt"
	"os/exec"
	"strings"
	"time"
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
