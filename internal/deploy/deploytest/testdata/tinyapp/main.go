// Tinyapp is the app that the conformance suite deploys: one static program that
// behaves as its environment says.
//
//	VERSION      what it answers on /
//	READY_AFTER  a duration; until then it does not listen
//	SICK         non-empty: it answers and its healthcheck fails
//	EXIT_AFTER   a duration; then it ends with EXIT_CODE
//	NEEDS        host:port that must accept a connection at start, or it ends with 3
//	FILL         mebibytes of memory that it uses
//	GROW         a folder into which it writes a mebibyte every 10 ms
//	SAY          a line that it prints at start
//	EXCHANGE     a path: in /top/mid/data it exchanges a file with a pipe, a folder with a link to
//	             the path and, above, /top/mid with such a link, without end
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/recipe-maintainers/cc-ci/internal/beneath"
	"github.com/recipe-maintainers/cc-ci/internal/box/emptied"
)

const address = ":8080"

func main() {
	if len(os.Args) < 2 {
		serve()
		return
	}
	args := os.Args[2:]
	switch os.Args[1] {
	case "health":
		health()
	case "exit":
		code, _ := strconv.Atoi(args[0])
		os.Exit(code)
	case "echo":
		fmt.Println(strings.Join(args, " "))
		fmt.Fprintln(os.Stderr, "told on standard error")
	case "env":
		fmt.Println(os.Getenv(args[0]))
	case "uid":
		fmt.Println(os.Getuid())
	case "cat":
		_, _ = io.Copy(os.Stdout, os.Stdin)
	case "read":
		data, err := os.ReadFile(args[0])
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Stdout.Write(data)
	case "flood":
		n, _ := strconv.Atoi(args[0])
		_, _ = io.Copy(os.Stdout, io.LimitReader(zeros{}, int64(n)))
	case "dial":
		conn, err := net.Dial("tcp", args[0])
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		go func() { _, _ = io.Copy(conn, os.Stdin) }()
		_, _ = io.Copy(os.Stdout, conn)
	case "reach":
		reach(args)
	case "addresses": // of this container, one a line
		all, _ := net.InterfaceAddrs()
		for _, a := range all {
			if p, ok := a.(*net.IPNet); ok && !p.IP.IsLoopback() {
				fmt.Println(p.IP)
			}
		}
	case "work": // a fixed amount of it; prints how long it took
		started := time.Now()
		sum := 0
		for i := range 100_000_000 {
			sum ^= i * i
		}
		fmt.Println(time.Since(started).Nanoseconds(), sum&1)
	case "get", "put": // as cc-ci box get and put
		if err := beneath.Run(os.Args[1:], os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	case "pipe":
		fail(syscall.Mkfifo(args[0], 0o666))
	case "link":
		fail(os.Symlink(args[0], args[1]))
	case "owner": // uid, gid and mode of a file
		info, err := os.Lstat(args[0])
		fail(err)
		stat := info.Sys().(*syscall.Stat_t)
		fmt.Printf("%d %d %o\n", stat.Uid, stat.Gid, stat.Mode)
	case "own": // PATH UID MODE
		uid, _ := strconv.Atoi(args[1])
		mode, _ := strconv.ParseUint(args[2], 8, 32)
		fail(os.Chmod(args[0], os.FileMode(mode)))
		fail(os.Chown(args[0], uid, uid))
	case "spin", "fork", "chatter", "hog":
		attack(os.Args[1])
	case "measure": // as cc-ci box measure
		for _, dir := range args {
			var size, entries int64
			_ = filepath.Walk(dir, func(_ string, info os.FileInfo, err error) error {
				if err == nil {
					size += info.Sys().(*syscall.Stat_t).Blocks * 512
					entries++
				}
				return nil
			})
			fmt.Println(size, entries, dir)
		}
	case "deep": // so many folders in each other
		n, _ := strconv.Atoi(args[0])
		err := os.Chdir(args[1])
		for ; err == nil && n > 0; n-- {
			if err = syscall.Mkdir("d", 0o700); err == nil {
				err = syscall.Chdir("d") // os.Chdir would look for the path
			}
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	case "empty": // as cc-ci box empty
		for _, dir := range args {
			if err := emptied.Folder(context.Background(), dir); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
		}
	case "count": // processes of this program that run a command
		n := 0
		all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, path := range all {
			line, _ := os.ReadFile(path)
			if words := strings.Split(string(line), "\x00"); len(words) > 1 && words[1] == args[0] {
				n++
			}
		}
		fmt.Println(n)
	case "sleep":
		d, _ := time.ParseDuration(args[0])
		fmt.Println("sleeping")
		time.Sleep(d)
	default:
		fmt.Fprintln(os.Stderr, "unknown command", os.Args[1])
		os.Exit(2)
	}
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// reach asks hosts that are apps like this one, all at once, and prints each that answers
// and its answer.
func reach(hosts []string) {
	c := http.Client{Timeout: 3 * time.Second}
	var all sync.WaitGroup
	for _, host := range hosts {
		all.Go(func() {
			answer, err := c.Get("http://" + host + address)
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				return
			}
			body, _ := io.ReadAll(answer.Body)
			answer.Body.Close()
			fmt.Printf("%s %s\n", host, body)
		})
	}
	all.Wait()
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = '0'
	}
	return len(p), nil
}

func health() {
	c := http.Client{Timeout: time.Second}
	answer, err := c.Get("http://127.0.0.1" + address + "/health")
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	if answer.StatusCode != http.StatusOK {
		fmt.Println("the app says", answer.Status)
		os.Exit(1)
	}
}

func serve() {
	if say := os.Getenv("SAY"); say != "" {
		fmt.Println(say)
	}
	if needs := os.Getenv("NEEDS"); needs != "" {
		conn, err := net.DialTimeout("tcp", needs, time.Second)
		if err != nil {
			fmt.Println("cannot reach", needs)
			os.Exit(3)
		}
		conn.Close()
	}
	if mib, _ := strconv.Atoi(os.Getenv("FILL")); mib > 0 {
		filled = make([]byte, mib<<20)
		for i := 0; i < len(filled); i += 4096 {
			filled[i] = 1
		}
	}
	if outside := os.Getenv("EXCHANGE"); outside != "" {
		go exchange(outside)
	}
	if dir := os.Getenv("GROW"); dir != "" {
		go func() {
			for i := 0; ; i++ {
				_ = os.WriteFile(filepath.Join(dir, strconv.Itoa(i)), make([]byte, 1<<20), 0o600)
				time.Sleep(10 * time.Millisecond)
			}
		}()
	}
	if d, err := time.ParseDuration(os.Getenv("EXIT_AFTER")); err == nil {
		code, _ := strconv.Atoi(os.Getenv("EXIT_CODE"))
		time.AfterFunc(d, func() {
			fmt.Println("ending with", code)
			os.Exit(code)
		})
	}
	if d, err := time.ParseDuration(os.Getenv("READY_AFTER")); err == nil {
		time.Sleep(d)
	}
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, os.Getenv("VERSION")) })
	http.HandleFunc("/large", func(w http.ResponseWriter, r *http.Request) { w.Write(make([]byte, 1<<20)) })
	http.HandleFunc("/jump/{host}", func(w http.ResponseWriter, r *http.Request) {
		fmt.Println("sent to", r.PathValue("host"))
		http.Redirect(w, r, "http://"+r.PathValue("host")+address+"/reached", http.StatusTemporaryRedirect)
	})
	http.HandleFunc("/reached", func(w http.ResponseWriter, r *http.Request) { fmt.Println("reached by", r.Method) })
	http.HandleFunc("/health", func(w http.ResponseWriter, r *http.Request) {
		if os.Getenv("SICK") != "" {
			http.Error(w, "sick", http.StatusServiceUnavailable)
		}
	})
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	go func() {
		<-stop
		os.Exit(0)
	}()
	fmt.Println("listening")
	fmt.Println(http.ListenAndServe(address, nil))
	os.Exit(1)
}

var filled []byte
