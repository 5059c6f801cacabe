package github

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func said(status int, body string, header ...string) *http.Response {
	h := http.Header{}
	for i := 0; i < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	return &http.Response{StatusCode: status, Status: strconv.Itoa(status), Header: h, Body: io.NopCloser(strings.NewReader(body))}
}

func request(ctx context.Context, method string) *http.Request {
	req, err := http.NewRequestWithContext(ctx, method, "https://api.github.com/x", nil)
	if err != nil {
		panic(err)
	}
	return req
}

// Times are inside the bubble, where the clock starts at midnight and stands still.
func TestA4_LimitsAreObeyed(t *testing.T) {
	const docs = `{"message":"%s","documentation_url":"https://docs.github.com/%s"}`
	inAnHour := func(skew time.Duration) []string {
		return []string{"X-RateLimit-Remaining", "0", "X-RateLimit-Reset", strconv.FormatInt(time.Now().Add(skew+time.Hour).Unix(), 10),
			"Date", time.Now().Add(skew).UTC().Format(http.TimeFormat)}
	}
	for name, test := range map[string]struct {
		answer func() *http.Response
		block  time.Duration
		passes bool // the answer itself is handed on
	}{
		"an ordinary answer": {func() *http.Response { return said(200, "[]", "X-RateLimit-Remaining", "4999") }, 0, true},
		"403 for lack of rights": {func() *http.Response {
			return said(403, fmt.Sprintf(docs, "Resource not accessible by integration", "rest"), "X-RateLimit-Remaining", "4999")
		}, 0, true},
		"403 and Retry-After": {func() *http.Response { return said(403, "{}", "Retry-After", "37") }, 37 * time.Second, false},
		"429 and Retry-After": {func() *http.Response { return said(429, "{}", "Retry-After", "37") }, 37 * time.Second, false},
		"429 and a date": {func() *http.Response {
			return said(429, "{}", "Retry-After", time.Now().Add(time.Minute).UTC().Format(http.TimeFormat))
		}, time.Minute, false},
		"429 and nothing": {func() *http.Response { return said(429, "") }, time.Minute, false},
		"403 of a secondary limit without a time": {func() *http.Response {
			return said(403, fmt.Sprintf(docs, "You have exceeded a secondary rate limit", "x#about-secondary-rate-limits"))
		}, time.Minute, false},
		"the last point":                        {func() *http.Response { return said(200, "[]", inAnHour(0)...) }, time.Hour, true},
		"the last point, our clock is behind":   {func() *http.Response { return said(200, "[]", inAnHour(30*time.Minute)...) }, time.Hour, true},
		"the last point, our clock is ahead":    {func() *http.Response { return said(304, "", inAnHour(-30*time.Minute)...) }, time.Hour, true},
		"403 with nothing left":                 {func() *http.Response { return said(403, "{}", inAnHour(0)...) }, time.Hour, false},
		"an absurd Retry-After is not for ever": {func() *http.Response { return said(429, "{}", "Retry-After", "999999999") }, longestBlock, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				asked := 0
				l := newLimits(transport(func(*http.Request) (*http.Response, error) {
					if asked++; asked == 1 {
						return test.answer(), nil
					}
					return said(200, "[]"), nil
				}), time.Now, time.Second, 13)
				start := time.Now()
				_, err := l.RoundTrip(request(t.Context(), "GET"))
				var blocked *Blocked
				if (err == nil) != test.passes || err != nil && (!errors.As(err, &blocked) || blocked.Until.Sub(start) != test.block) {
					t.Fatalf("got %v; want it to pass: %t, blocked for %s", err, test.passes, test.block)
				}
				if test.block > 0 {
					time.Sleep(test.block - time.Millisecond)
					if _, err := l.RoundTrip(request(t.Context(), "GET")); !errors.As(err, &blocked) || asked != 1 {
						t.Errorf("a moment before its end: %v after %d requests", err, asked)
					}
					time.Sleep(time.Millisecond)
				}
				if _, err := l.RoundTrip(request(t.Context(), "GET")); err != nil || asked != 2 {
					t.Errorf("afterwards: %v after %d requests", err, asked)
				}
			})
		})
	}
}

func TestA4_SecondaryLimitsGrow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		status := 429
		l := newLimits(transport(func(*http.Request) (*http.Response, error) { return said(status, ""), nil }), time.Now, 0, 0)
		for _, want := range []time.Duration{1, 2, 4, 8, 16, 16} {
			var blocked *Blocked
			if _, err := l.RoundTrip(request(t.Context(), "GET")); !errors.As(err, &blocked) || time.Until(blocked.Until) != want*time.Minute {
				t.Fatalf("got %v, want %d minutes", err, want)
			}
			time.Sleep(time.Until(blocked.Until))
		}
		status = 200
		if _, err := l.RoundTrip(request(t.Context(), "GET")); err != nil {
			t.Fatal(err)
		}
		status = 429
		var blocked *Blocked
		if _, err := l.RoundTrip(request(t.Context(), "GET")); !errors.As(err, &blocked) || time.Until(blocked.Until) != time.Minute {
			t.Errorf("after an answer that was none: %v, want a minute again", err)
		}
	})
}

// GitHub allows 900 points a minute, and asks for a second between writes.
func TestA4_RequestsArePaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var at []time.Time
		l := newLimits(transport(func(*http.Request) (*http.Response, error) {
			mu.Lock()
			defer mu.Unlock()
			at = append(at, time.Now())
			return said(200, ""), nil
		}), time.Now, time.Second, 13)
		var wg sync.WaitGroup
		start := time.Now()
		for range 1800 {
			wg.Go(func() {
				if _, err := l.RoundTrip(request(t.Context(), "GET")); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		worst := 0
		for i := range at {
			n := 0
			for _, b := range at[i:] {
				if b.Sub(at[i]) < time.Minute {
					n++
				}
			}
			worst = max(worst, n)
		}
		if worst > 880 || time.Since(start) > 140*time.Second {
			t.Errorf("%d requests within a minute, all 1,800 in %s", worst, time.Since(start))
		}
		time.Sleep(time.Minute)
		at = nil
		for range 3 {
			wg.Go(func() {
				if _, err := l.RoundTrip(request(t.Context(), "POST")); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if len(at) != 3 || at[1].Sub(at[0]) < time.Second || at[2].Sub(at[1]) < time.Second {
			t.Errorf("writes at %v, want a second between them", at)
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Millisecond, cancel)
		if _, err := l.RoundTrip(request(ctx, "POST")); !errors.Is(err, context.Canceled) {
			t.Errorf("a write that is no longer wanted: %v", err)
		}
	})
}
