// Command attacker is the app of the attack recipes. It does what its arguments
// say, one line of its log for each, and then serves HTTP as a healthy app does,
// so that the run goes on and its result shows whether the attack had an effect.
//
// A line that begins with ESCAPED says that an attack reached what it must not
// reach; one that begins with contained says that it did not. "attacks done" ends them.
//
//	dial NAME HOST:PORT      connect, send a request for /NAME, and read an answer
//	resolve NAME HOST        look a host name up
//	packet NAME              open a raw socket
//	mknod NAME PATH          make a device file of the first disk
//	setuid NAME              become another user
//	fork NAME N              start N processes that sleep
//	memory NAME MIB          allocate and write memory, in a process of its own
//	spin SECONDS             use all processors, beside all that follows
//	fill NAME DIR MIB        write a file of that size
//	grow DIR MIB             write a file of that size, which is no attack by itself
//	append NAME PATH MIB     append that much to a file that is there
//	sparse PATH BYTES        make a file with one hole of that size
//	dir PATH                 make a directory
//	write PATH TEXT          write a file
//	churn DIR                make and remove files without end, beside all that follows
//	deep DIR                 make a path that is longer than the kernel takes
//	obstruct CANARY PATH     once the canary was changed, put a folder with a file in the place of PATH
//	flood MIB                write that much to the log
//	pour MIB                 write that much to the log in each second, beside all that follows
//	secret FILE CODING       write a secret to the log: see codings
//	print TEXT               write a text, with the escapes of a Go string, to the log
//	stubborn                 ignore SIGTERM
//	hang                     listen on nothing, for ever
//	exit CODE                end at once
//	end SECONDS CODE         end after that long, beside all that follows
//	pause SECONDS            do nothing for that long
//	needs HOST:PORT          end with 3 unless something listens there
//
// It is the image's shell too, for hooks: "sh -c" does lines that are parted by semicolons, and ends.
//
// What it serves is in its environment: PAGE is the page at /, LOCATION a
// redirection of /, DELAY how long / takes, SCRIPT a script at /script.js.
package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "child" {
		child(os.Args[2:])
		return
	}
	lines, shell := os.Args[1:], filepath.Base(os.Args[0]) == "sh"
	switch {
	case shell && len(lines) == 2 && lines[0] == "-c":
		lines = strings.Split(lines[1], ";")
	case len(lines) == 0:
		lines = strings.Split(os.Getenv("ATTACKS"), "\n")
	}
	for _, line := range lines {
		if words := strings.Fields(line); len(words) > 0 {
			attack(words, strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), words[0])))
		}
	}
	fmt.Println("attacks done")
	if !shell {
		serve()
	}
}

func serve() {
	http.HandleFunc("/health", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "the attacker is up") })
	http.HandleFunc("/script.js", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/javascript")
		fmt.Fprint(w, os.Getenv("SCRIPT"))
	})
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if delay, err := time.ParseDuration(os.Getenv("DELAY")); err == nil {
			time.Sleep(delay)
		}
		if to := os.Getenv("LOCATION"); to != "" && r.URL.Path == "/" {
			http.Redirect(w, r, to, http.StatusFound)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		page := os.Getenv("PAGE")
		if file := os.Getenv("PAGE_SECRET"); file != "" {
			text, _ := os.ReadFile(file)
			page = strings.ReplaceAll(page, "SECRET", html.EscapeString(string(text)))
		}
		fmt.Fprintf(w, "<!doctype html><title>attack</title><h1>the attacker is up</h1>%s", page)
	})
	fmt.Println(http.ListenAndServe(":8080", nil))
	os.Exit(1)
}

// report writes the line that the test looks for.
func report(name string, reached bool, detail any) {
	word := "contained"
	if reached {
		word = "ESCAPED"
	}
	fmt.Printf("%s %s: %v\n", word, name, detail)
}

func attack(words []string, rest string) {
	arg := func(i int) string {
		if i < len(words) {
			return words[i]
		}
		return ""
	}
	switch words[0] {
	case "dial":
		answer, err := dial(arg(2), arg(1))
		report(arg(1), err == nil, or(err, answer))
	case "resolve":
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		addresses, err := net.DefaultResolver.LookupHost(ctx, arg(2))
		report(arg(1), err == nil && len(addresses) > 0, or(err, addresses))
	case "packet":
		fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_RAW, syscall.IPPROTO_ICMP)
		report(arg(1), err == nil, or(err, fd))
	case "mknod":
		err := syscall.Mknod(arg(2), syscall.S_IFBLK|0o600, 8<<8)
		report(arg(1), err == nil, err)
	case "setuid":
		err := syscall.Setuid(4711)
		report(arg(1), err == nil, err)
	case "fork":
		n := forks(number(arg(2)))
		report(arg(1), n == number(arg(2)), fmt.Sprintf("%d processes", n))
	case "memory":
		err := exec.Command("/proc/self/exe", "child", "memory", arg(2)).Run()
		report(arg(1), err == nil, err)
	case "spin":
		for range 64 {
			go func() {
				for end := time.Now().Add(time.Duration(number(arg(1))) * time.Second); time.Now().Before(end); {
				}
			}()
		}
	case "fill":
		n, err := fill(arg(2)+"/filler", number(arg(3)))
		report(arg(1), err == nil, fmt.Sprintf("%d MiB, %v", n, err))
	case "grow":
		n, err := fill(arg(1)+"/filler", number(arg(2)))
		fmt.Println("MiB written:", n, err)
	case "append":
		size, err := appendLines(arg(2), number(arg(3)))
		report(arg(1), size >= int64(number(arg(3)))<<20/2, fmt.Sprintf("%s has %d MiB, %v", arg(2), size>>20, err))
	case "sparse":
		f, err := os.Create(arg(1))
		if err == nil {
			err = f.Truncate(int64(number(arg(2))))
		}
		fmt.Println("sparse file:", err)
	case "dir":
		fmt.Println("directory:", os.MkdirAll(arg(1), 0o777))
	case "write":
		fmt.Println("file:", os.WriteFile(arg(1), []byte(rest), 0o666))
	case "churn":
		go churn(arg(1))
	case "deep":
		fmt.Println("deep folders:", deep(arg(1)))
	case "obstruct":
		go obstruct(arg(1), arg(2))
	case "flood":
		flood(number(arg(1)))
	case "pour":
		go pour(number(arg(1)))
	case "secret":
		text, err := os.ReadFile(arg(1))
		if err != nil {
			fmt.Println("reading the secret:", err)
			return
		}
		os.Stdout.Write(append(coded(string(text), arg(2)), '\n'))
	case "print":
		text, err := strconv.Unquote(`"` + rest + `"`)
		fmt.Println(text, or(err, ""))
	case "hang":
		ended := make(chan os.Signal, 1)
		signal.Notify(ended, syscall.SIGTERM)
		<-ended
		os.Exit(0)
	case "stubborn":
		signal.Ignore(syscall.SIGTERM)
	case "end":
		time.AfterFunc(time.Duration(number(arg(1)))*time.Second, func() {
			fmt.Println("the end")
			os.Exit(number(arg(2)))
		})
	case "pause":
		time.Sleep(time.Duration(number(arg(1))) * time.Second)
	case "needs":
		conn, err := net.DialTimeout("tcp", arg(1), 2*time.Second)
		if err != nil {
			fmt.Println("cannot reach what it needs:", err)
			os.Exit(3)
		}
		conn.Close()
	case "exit":
		os.Exit(number(arg(1)))
	default:
		fmt.Println("unknown attack", words[0])
		os.Exit(2)
	}
}

func or(err error, detail any) any {
	if err != nil {
		return err
	}
	return detail
}

func number(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		fmt.Println(err)
		os.Exit(2)
	}
	return n
}

func dial(address, name string) (string, error) {
	conn, err := net.DialTimeout("tcp", address, 2*time.Second)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(2 * time.Second))
	fmt.Fprintf(conn, "GET /%s HTTP/1.0\r\nHost: %s\r\n\r\n", url.PathEscape(name), address)
	answer, err := io.ReadAll(io.LimitReader(conn, 60))
	if len(answer) > 0 {
		err = nil
	}
	return strconv.Quote(string(answer)), err
}

// forks returns how many processes could be started.
func forks(n int) int {
	started := 0
	for range n {
		cmd := exec.Command("/proc/self/exe", "child", "sleep")
		if cmd.Start() != nil {
			break
		}
		started++
	}
	return started
}

func child(args []string) {
	switch args[0] {
	case "sleep":
		select {}
	case "memory":
		var held [][]byte
		for range number(args[1]) {
			block := make([]byte, 1<<20)
			for i := 0; i < len(block); i += 4096 {
				block[i] = 1
			}
			held = append(held, block)
		}
		_ = held
	}
}

// fill returns the MiB written. It writes at most 200 MiB a second: on a fast disk it would be done before a busy
// machine measures anything.
func fill(path string, mib int) (int, error) {
	f, err := os.Create(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	block := bytes.Repeat([]byte("cc-ci"), 1<<20/5)
	for i := range mib {
		if _, err := f.Write(block); err != nil {
			return i, err
		}
		time.Sleep(5 * time.Millisecond)
	}
	return mib, f.Sync()
}

// appendLines appends lines of 32 KiB, as fast as it can, and returns how large the file is then.
func appendLines(path string, mib int) (int64, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	block := bytes.Repeat(append(bytes.Repeat([]byte("#"), 32<<10-1), '\n'), 32)
	for range mib {
		if _, err = f.Write(block); err != nil {
			break
		}
	}
	info, statErr := f.Stat()
	if statErr != nil {
		return 0, statErr
	}
	return info.Size(), err
}

func churn(dir string) {
	for i := 0; ; i++ {
		_ = os.WriteFile(dir+"/tmp"+strconv.Itoa(i), nil, 0o600)
		_ = os.Remove(dir + "/tmp" + strconv.Itoa(i-1000))
	}
}

func deep(dir string) error {
	err := os.Chdir(dir)
	for name, i := strings.Repeat("n", 200), 0; i < 25 && err == nil; i++ {
		if err = os.Mkdir(name, 0o755); err == nil {
			err = os.Chdir(name)
		}
	}
	return err
}

func obstruct(canary, path string) {
	for {
		text, err := os.ReadFile(canary)
		if err == nil && bytes.HasPrefix(text, []byte("ccci-b-")) {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	fmt.Println("in the way:", os.Remove(path), os.MkdirAll(path+"/folder", 0o755))
}

func flood(mib int) {
	line := append(bytes.Repeat([]byte("x"), 127), '\n')
	for range mib << 13 {
		os.Stdout.Write(line)
	}
}

// pour writes so many MiB in each second.
func pour(mib int) {
	some := bytes.Repeat(append(bytes.Repeat([]byte("x"), 127), '\n'), mib<<13/10)
	for range time.Tick(100 * time.Millisecond) {
		os.Stdout.Write(some)
	}
}

// coded writes a secret the way an app might print it.
func coded(text, coding string) []byte {
	switch coding {
	case "base64":
		return []byte(base64.StdEncoding.EncodeToString([]byte("user:" + text)))
	case "wrapped": // base64 in lines, as MIME does
		long := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("p", 50) + text))
		var out []byte
		for len(long) > 76 {
			out, long = append(append(out, long[:76]...), '\n'), long[76:]
		}
		return append(out, long...)
	case "hex":
		return []byte(hex.EncodeToString([]byte(text)))
	case "HEX":
		return []byte(strings.ToUpper(hex.EncodeToString([]byte(text))))
	case "dump":
		return []byte(hex.Dump([]byte(text)))
	case "json":
		out, _ := json.Marshal(text)
		return out
	case "html":
		return []byte(html.EscapeString(text))
	case "url":
		return []byte(url.QueryEscape(text))
	case "percent":
		return escapes(text, "%%%02x")
	case "backslash":
		return escapes(text, `\x%02x`)
	case "reversed":
		out := []byte(text)
		for i, j := 0, len(out)-1; i < j; i, j = i+1, j-1 {
			out[i], out[j] = out[j], out[i]
		}
		return out
	case "ansi":
		return []byte(text[:len(text)/2] + "\x1b[31m" + text[len(text)/2:])
	case "gzip":
		var out bytes.Buffer
		w := gzip.NewWriter(&out)
		_, _ = w.Write([]byte(text))
		_ = w.Close()
		return []byte(base64.StdEncoding.EncodeToString(out.Bytes()))
	case "long": // at the end of a line of more than a megabyte
		return append(bytes.Repeat([]byte("y"), 1<<20), text...)
	case "chunk": // across the 16 KiB at which Docker cuts a line
		return append(bytes.Repeat([]byte("z"), 16<<10-len(text)/2), text...)
	}
	return []byte(text)
}

func escapes(text, format string) (out []byte) {
	for _, c := range []byte(text) {
		out = fmt.Appendf(out, format, c)
	}
	return out
}
