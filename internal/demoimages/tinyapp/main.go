// Command tinyapp is the app of the canary recipes: a small web application
// that keeps one value, in memory and in a file, as a database keeps its rows.
// Because the running process answers from memory, putting an old file back
// changes nothing until a restore hook loads it, which is what makes backup
// hooks worth testing.
//
//	tinyapp                 serve
//	tinyapp health          exit 0 when the server on this machine is healthy
//	tinyapp dump FILE       write the server's value to FILE
//	tinyapp load [FILE]     give the server the value in FILE or standard input; empty input changes nothing
//	tinyapp print FILE      write FILE to standard output
//	tinyapp fetch URL       write what another server answers to standard output
//	tinyapp version
//
// What it serves: GET / a page, GET /health, GET /version, GET /unstable, GET, PUT and POST
// (form field "value") /data. Environment:
//
//	TINYAPP_DATA          folder of the data, default /data
//	TINYAPP_HEALTH        "never": /health answers 503 for ever
//	TINYAPP_UNSTABLE      how many requests for /unstable are answered with 500 before the others
//	TINYAPP_PRINT_SECRET  file whose content is written to the log at start
//	TINYAPP_MARKUP        HTML at the end of the page, for pages that misbehave
package main

import (
	"context"
	"errors"
	"fmt"
	"html/template"
	"io"
	"log"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// version is set by the linker.
var version = "0.0.0"

const (
	address  = ":8080"
	local    = "http://127.0.0.1:8080"
	maxValue = 1 << 20 // bytes
)

func main() {
	log.SetFlags(0)
	if err := run(os.Args[1:]); err != nil {
		log.Fatalf("tinyapp: %v", err)
	}
}

func run(args []string) error {
	command, file := "serve", ""
	if len(args) > 0 {
		command = args[0]
	}
	if len(args) > 1 {
		file = args[1]
	}
	switch command {
	case "serve":
		return serve()
	case "health":
		_, err := ask(http.MethodGet, local+"/health", nil)
		return err
	case "dump":
		return dump(file)
	case "load":
		return load(file)
	case "print":
		return printFile(file)
	case "fetch":
		answer, err := ask(http.MethodGet, file, nil)
		if err == nil {
			_, err = os.Stdout.Write(answer)
		}
		return err
	case "version":
		_, err := fmt.Println(version)
		return err
	}
	return fmt.Errorf("there is no command %q", command)
}

func dump(file string) error {
	value, err := ask(http.MethodGet, local+"/data", nil)
	if err != nil {
		return fmt.Errorf("dumping: %w", err)
	}
	return writeFile(file, value)
}

func load(file string) error {
	in := io.Reader(os.Stdin)
	if file != "" {
		f, err := os.Open(file)
		if err != nil {
			return fmt.Errorf("loading: %w", err)
		}
		defer f.Close()
		in = f
	}
	value, err := io.ReadAll(in)
	if err != nil {
		return fmt.Errorf("loading: %w", err)
	}
	if len(value) == 0 {
		return nil // as a database client does with an empty script
	}
	_, err = ask(http.MethodPut, local+"/data", strings.NewReader(string(value)))
	return err
}

func printFile(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(os.Stdout, f)
	return err
}

// ask sends one request.
func ask(method, url string, body io.Reader) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxValue))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= 300 {
		return nil, fmt.Errorf("%s %s answers %s", method, url, resp.Status)
	}
	return answer, nil
}

func serve() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	dir := os.Getenv("TINYAPP_DATA")
	if dir == "" {
		dir = "/data"
	}
	app, err := open(filepath.Join(dir, "value"))
	if err != nil {
		return fmt.Errorf("opening the data: %w", err)
	}
	if times := os.Getenv("TINYAPP_UNSTABLE"); times != "" {
		if app.unstable, err = strconv.Atoi(times); err != nil {
			return fmt.Errorf("TINYAPP_UNSTABLE: %w", err)
		}
	}
	if name := os.Getenv("TINYAPP_PRINT_SECRET"); name != "" {
		secret, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		log.Printf("connecting with token %s", secret)
	}
	server := &http.Server{Addr: address, Handler: app.routes(), ReadHeaderTimeout: 5 * time.Second}
	context.AfterFunc(ctx, func() {
		grace, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		server.Shutdown(grace)
	})
	log.Printf("tinyapp %s listens on %s", version, address)
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// app answers from memory; file is only read when it starts.
type app struct {
	file string

	mu       sync.Mutex
	value    []byte // nil: nothing was ever stored
	unstable int    // how many requests for /unstable are still to fail
}

func open(file string) (*app, error) {
	value, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return &app{file: file}, nil
	}
	return &app{file: file, value: value}, err
}

func (a *app) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", a.page)
	mux.HandleFunc("GET /health", a.health)
	mux.HandleFunc("GET /version", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, version) })
	mux.HandleFunc("GET /unstable", a.stabilise)
	mux.HandleFunc("GET /data", a.read)
	mux.HandleFunc("PUT /data", a.write)
	mux.HandleFunc("POST /data", a.submit)
	return mux
}

func (a *app) health(w http.ResponseWriter, _ *http.Request) {
	if os.Getenv("TINYAPP_HEALTH") == "never" {
		http.Error(w, "not healthy, and never will be", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "tinyapp is healthy")
}

func (a *app) stabilise(w http.ResponseWriter, _ *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.unstable > 0 {
		a.unstable--
		http.Error(w, "unstable", http.StatusInternalServerError)
		return
	}
	fmt.Fprintln(w, "stable")
}

func (a *app) read(w http.ResponseWriter, _ *http.Request) {
	a.mu.Lock()
	value := a.value
	a.mu.Unlock()
	if value == nil {
		http.Error(w, "nothing is stored", http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Write(value)
}

func (a *app) write(w http.ResponseWriter, r *http.Request) {
	value, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxValue))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if err := a.store(value); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (a *app) submit(w http.ResponseWriter, r *http.Request) {
	if err := a.store([]byte(r.FormValue("value"))); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func (a *app) store(value []byte) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := writeFile(a.file, value); err != nil {
		return err
	}
	a.value = value
	return nil
}

var page = template.Must(template.New("page").Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>tinyapp</title>
<body style="font-family: system-ui; max-width: 36rem; margin: 3rem auto; padding: 0 1rem">
<h1>tinyapp {{.Version}}</h1>
<p>Stored value: <strong id="value">{{.Value}}</strong></p>
<form method="post" action="/data"><input name="value" aria-label="New value"> <button>Store</button></form>
{{.Markup}}</body></html>
`))

func (a *app) page(w http.ResponseWriter, _ *http.Request) {
	a.mu.Lock()
	value := string(a.value)
	a.mu.Unlock()
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	page.Execute(w, struct {
		Version, Value string
		Markup         template.HTML
	}{version, value, template.HTML(os.Getenv("TINYAPP_MARKUP"))})
}

// writeFile replaces file as a whole, making its folder, so that no reader and
// no crash ever sees half of it.
func writeFile(file string, content []byte) error {
	if file == "" {
		return errors.New("a file must be named")
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	part := file + ".part"
	if err := os.WriteFile(part, content, 0o644); err != nil {
		return err
	}
	return os.Rename(part, file)
}
