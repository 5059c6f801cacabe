package github

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Blocked says that GitHub wants to hear nothing until then. Nothing was sent,
// or it was sent and not carried out: the call may be made again after Until.
type Blocked struct {
	Until time.Time
	Why   string
}

func (b *Blocked) Error() string {
	return fmt.Sprintf("GitHub takes no requests until %s: %s", b.Until.UTC().Format(time.RFC3339), b.Why)
}

const (
	parallel     = 8                // requests at the same time; GitHub's bound is 100
	burst        = 60               // points that may be spent at once
	longestBlock = 65 * time.Minute // the primary limit's window, and a little
	secondary    = time.Minute      // first wait of a secondary limit that names none; it doubles
)

// limits is a transport that keeps GitHub's limits. It paces requests (900
// points a minute are allowed), spaces writes, and after an answer that
// says so it refuses everything with [Blocked] until the named time: requests made
// in spite of a limit can get an integration banned. It waits only where the
// wait is short.
type limits struct {
	next     http.RoundTripper
	now      func() time.Time
	writeGap time.Duration
	perPoint time.Duration

	slots  chan struct{}
	writer chan struct{} // held by the one write under way

	mu        sync.Mutex
	last      Rate
	why       string
	strikes   int
	free      time.Time // when the bucket of points is full again
	lastWrite time.Time
}

func newLimits(next http.RoundTripper, now func() time.Time, writeGap time.Duration, perSecond float64) *limits {
	l := &limits{next: next, now: now, writeGap: writeGap, slots: make(chan struct{}, parallel), writer: make(chan struct{}, 1)}
	if perSecond > 0 {
		l.perPoint = time.Duration(float64(time.Second) / perSecond)
	}
	return l
}

func (l *limits) rate() Rate {
	l.mu.Lock()
	defer l.mu.Unlock()
	rate := l.last
	if !rate.BlockedUntil.After(l.now()) {
		rate.BlockedUntil = time.Time{}
	}
	return rate
}

func (l *limits) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	points := 1
	if isWrite(req) {
		points = 5
		if err := take(ctx, l.writer); err != nil {
			return nil, err
		}
		defer func() { <-l.writer }()
	}
	if err := l.blocked(); err != nil {
		return nil, err
	}
	if err := l.wait(ctx, points); err != nil {
		return nil, err
	}
	if err := take(ctx, l.slots); err != nil {
		return nil, err
	}
	defer func() { <-l.slots }()
	if err := l.blocked(); err != nil { // meanwhile another request may have been told so
		return nil, err
	}
	resp, err := l.next.RoundTrip(req)
	if isWrite(req) {
		l.mu.Lock()
		l.lastWrite = l.now()
		l.mu.Unlock()
	}
	if err != nil {
		return nil, err
	}
	if err := l.judge(resp); err != nil {
		discard(resp)
		return nil, err
	}
	// The library keeps a memory of its own by the machine's clock; one is enough.
	for _, name := range []string{"X-Ratelimit-Reset", "X-Ratelimit-Remaining", "Retry-After"} {
		resp.Header.Del(name)
	}
	return resp, nil
}

func isWrite(req *http.Request) bool {
	return req.Method != http.MethodGet && req.Method != http.MethodHead
}

func take(ctx context.Context, c chan struct{}) error {
	select {
	case c <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *limits) blocked() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last.BlockedUntil.After(l.now()) {
		return &Blocked{Until: l.last.BlockedUntil, Why: l.why}
	}
	return nil
}

// wait takes points out of the bucket, and for a write keeps the gap.
func (l *limits) wait(ctx context.Context, points int) error {
	l.mu.Lock()
	now := l.now()
	var pause time.Duration
	if l.perPoint > 0 {
		if l.free.Before(now) {
			l.free = now
		}
		l.free = l.free.Add(time.Duration(points) * l.perPoint)
		pause = l.free.Sub(now) - burst*l.perPoint
	}
	if points > 1 && l.writeGap > 0 && !l.lastWrite.IsZero() {
		pause = max(pause, l.lastWrite.Add(l.writeGap).Sub(now))
	}
	l.mu.Unlock()
	if pause <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// judge learns from an answer; the error is a [Blocked] when it was a refusal
// for a limit's sake.
func (l *limits) judge(resp *http.Response) error {
	now := l.now()
	h := resp.Header
	remaining, errRemaining := strconv.Atoi(h.Get("X-RateLimit-Remaining"))
	exhausted := errRemaining == nil && remaining == 0
	reset := untilReset(h, now)

	l.mu.Lock()
	defer l.mu.Unlock()
	if errRemaining == nil {
		l.last.Remaining = remaining
		l.last.Limit, _ = strconv.Atoi(h.Get("X-RateLimit-Limit"))
		l.last.Used, _ = strconv.Atoi(h.Get("X-RateLimit-Used"))
		l.last.Reset = now.Add(reset)
	}
	block := func(d time.Duration, why string) error {
		until := now.Add(min(max(d, time.Second), longestBlock))
		if until.After(l.last.BlockedUntil) {
			l.last.BlockedUntil, l.why = until, why
		}
		return &Blocked{Until: l.last.BlockedUntil, Why: l.why}
	}
	if resp.StatusCode != http.StatusForbidden && resp.StatusCode != http.StatusTooManyRequests {
		if resp.StatusCode < 500 {
			l.strikes = 0
		}
		if exhausted && reset > 0 {
			block(reset, "the hourly limit is used up")
		}
		return nil
	}
	if after, ok := retryAfter(h, now); ok {
		l.strikes++
		return block(after, "it asked to wait (Retry-After)")
	}
	if exhausted {
		return block(max(reset, time.Second), "the hourly limit is used up")
	}
	if resp.StatusCode == http.StatusTooManyRequests || speaksOfLimit(resp) {
		wait := secondary << min(l.strikes, 4)
		l.strikes++
		return block(wait, "a secondary limit")
	}
	return nil
}

// untilReset is measured between two times of the server's clock.
func untilReset(h http.Header, now time.Time) time.Duration {
	seconds, err := strconv.ParseInt(h.Get("X-RateLimit-Reset"), 10, 64)
	if err != nil || seconds <= 0 {
		return 0
	}
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		now = date
	}
	return time.Unix(seconds, 0).Sub(now)
}

func retryAfter(h http.Header, now time.Time) (time.Duration, bool) {
	value := h.Get("Retry-After")
	if seconds, err := strconv.Atoi(value); err == nil && seconds >= 0 {
		return time.Duration(min(seconds, 1<<20)) * time.Second, true
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0, false
	}
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		now = date
	}
	return at.Sub(now), true
}

// speaksOfLimit tells a refusal for a limit's sake from one for lack of rights.
func speaksOfLimit(resp *http.Response) bool {
	text, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	resp.Body = io.NopCloser(bytes.NewReader(text))
	var body struct {
		Message string `json:"message"`
		Docs    string `json:"documentation_url"`
	}
	if err != nil || json.Unmarshal(text, &body) != nil {
		return false
	}
	return strings.Contains(body.Docs, "rate-limit") || strings.Contains(body.Docs, "abuse") ||
		strings.Contains(strings.ToLower(body.Message), "rate limit")
}

// errTooLong says that an answer was longer than answerLimit.
var errTooLong = errors.New("GitHub's answer is too long")

// whole is a transport whose answers are complete: a body that breaks off is an
// error here, and no caller hangs on a slow one.
type whole struct{ next http.RoundTripper }

const (
	answerLimit = 16 << 20
	answerTime  = 30 * time.Second // GitHub itself gives up after 10 s
)

func (t *whole) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithTimeout(req.Context(), answerTime)
	defer cancel()
	resp, err := t.next.RoundTrip(req.WithContext(ctx))
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, answerLimit+1))
	resp.Body.Close()
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading GitHub's answer: %w", err)
	case len(text) > answerLimit:
		return nil, fmt.Errorf("%w: more than %d bytes", errTooLong, answerLimit)
	}
	resp.Body = io.NopCloser(bytes.NewReader(text))
	resp.Request = req
	return resp, nil
}
