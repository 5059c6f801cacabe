// Package githubfake is a GitHub for tests: accounts, organisations with private
// members, repositories that are real git served over http, pull requests from
// branches and forks, comments, statuses, check runs, ETags and a rate limit.
// Its answers are completed and checked by GitHub's own published description
// (openapi.go), so that the fake cannot drift away from what it stands for, and so
// are the requests that it gets.
//
// Its clock stands still and goes on by a second with each thing that people do.
package githubfake

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"time"
)

// Options of [New].
type Options struct {
	Dir   string    // for the repositories; made when absent
	Start time.Time // zero: now
	Limit int       // primary points an hour for a token; 0: 5,000
}

// Server is the fake. Its methods may be called at any time.
type Server struct {
	URL    string // of the pages and of git
	APIURL string // ends in /

	dir  string
	http *httptest.Server
	spec *spec
	push sync.Mutex // one push at a time

	mu       sync.Mutex
	now      time.Time
	still    bool // the next thing happens within this second
	lastID   int64
	limit    int
	users    map[string]*account // by lower-case login
	orgs     map[string]map[int64]string
	repos    map[int64]*repository
	names    map[string]int64 // "owner/name" in lower case -> id, of former names too
	tokens   map[string]*identity
	apps     map[string]*app
	faults   []*Fault
	problems []string
	stats    Stats
}

// Stats count what was asked.
type Stats struct {
	Requests    int
	Points      int // primary points, which an answer of 304 does not cost
	NotModified int
	Writes      int
}

// New starts a fake on a free port of the loopback.
func New(opts Options) (*Server, error) {
	spec, err := loadSpec()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(opts.Dir, 0o755); err != nil {
		return nil, err
	}
	if opts.Start.IsZero() {
		opts.Start = time.Now()
	}
	if opts.Limit == 0 {
		opts.Limit = 5000
	}
	s := &Server{
		dir: opts.Dir, spec: spec, now: opts.Start.UTC().Truncate(time.Second), lastID: 1000, limit: opts.Limit,
		users: map[string]*account{}, orgs: map[string]map[int64]string{}, repos: map[int64]*repository{}, names: map[string]int64{},
		tokens: map[string]*identity{}, apps: map[string]*app{},
	}
	s.http = httptest.NewServer(s)
	s.URL, s.APIURL = s.http.URL, s.http.URL+apiPrefix+"/"
	return s, nil
}

const apiPrefix = "/api/v3" // where an Enterprise Server has it

// Close stops the server.
func (s *Server) Close() { s.http.Close() }

// Now is the fake's clock.
func (s *Server) Now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

// Advance moves the clock.
func (s *Server) Advance(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now, s.still = s.now.Add(d), false
}

// SameSecond lets the next thing happen within the present second.
func (s *Server) SameSecond() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.still = true
}

// tick is what time it is when the next thing happens.
func (s *Server) tick() time.Time {
	if !s.still {
		s.now = s.now.Add(time.Second)
	}
	s.still = false
	return s.now
}

func (s *Server) id() int64 {
	s.lastID++
	return s.lastID
}

// Stats returns the counts since the last call.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	stats := s.stats
	s.stats = Stats{}
	return stats
}

// Problems returns what was not as GitHub describes it: requests and answers.
func (s *Server) Problems() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.problems...)
}

func (s *Server) problem(format string, args ...any) {
	s.problems = append(s.problems, fmt.Sprintf(format, args...))
}

// Fault answers requests in the place of the fake.
type Fault struct {
	Method, Path string // Path is a part of the request's; "" fits all
	Times        int    // 0: once
	Status       int
	Header       map[string]string
	Body         string // JSON unless Header says otherwise
	Hangup       bool   // the connection breaks instead
	After        bool   // the request is carried out, and its answer lost
}

// Inject adds a fault. Faults are tried in their order.
func (s *Server) Inject(f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f.Times = max(f.Times, 1)
	s.faults = append(s.faults, &f)
}

func (s *Server) fault(r *http.Request) *Fault {
	for i, f := range s.faults {
		if (f.Method == "" || f.Method == r.Method) && strings.Contains(r.URL.Path, f.Path) {
			if f.Times--; f.Times == 0 {
				s.faults = append(s.faults[:i:i], s.faults[i+1:]...)
			}
			return f
		}
	}
	return nil
}

// reply is an answer before it is written.
type reply struct {
	status int
	header http.Header
	body   any // nil: none
}

func answer(status int, body any) reply {
	return reply{status: status, header: http.Header{}, body: body}
}

func refusal(status int, format string, args ...any) reply {
	return answer(status, map[string]any{"message": fmt.Sprintf(format, args...), "documentation_url": "https://docs.github.com/rest", "status": fmt.Sprint(status)})
}

var notFound = refusal(http.StatusNotFound, "Not Found")

func (r reply) text() []byte {
	if r.body == nil {
		return nil
	}
	text, err := json.Marshal(r.body)
	if err != nil {
		panic(err) // it is made of maps, lists and plain values
	}
	return text
}

// ClearFaults takes away the faults that were not used.
func (s *Server) ClearFaults() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}
