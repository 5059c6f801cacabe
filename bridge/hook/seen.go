package hook

import (
	"fmt"
	"net/http"
	"sync"
)

// seenLimit is how many deliveries are remembered.
const seenLimit = 4096

// seen remembers the latest deliveries. It only saves looks: a delivery that it
// has forgotten is harmless. The zero value is ready.
type seen struct {
	mu    sync.Mutex
	known map[string]bool
	order []string // a ring
	at    int
}

func (s *seen) has(forge, delivery string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return delivery != "" && s.known[forge+" "+delivery]
}

func (s *seen) add(forge, delivery string) {
	if delivery == "" || len(delivery) > 128 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	key := forge + " " + delivery
	switch {
	case s.known[key]:
		return
	case s.known == nil:
		s.known = map[string]bool{}
	}
	if len(s.order) < seenLimit {
		s.order = append(s.order, key)
	} else {
		delete(s.known, s.order[s.at])
		s.order[s.at] = key
		s.at = (s.at + 1) % seenLimit
	}
	s.known[key] = true
}

// refusals are whole answers by status code, for connections that are taken over.
var refusals = func() map[int]string {
	all := map[int]string{}
	for _, code := range []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusNotFound, http.StatusMethodNotAllowed,
		http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusServiceUnavailable} {
		text := http.StatusText(code) + "\n"
		all[code] = fmt.Sprintf("HTTP/1.1 %d %s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
			code, http.StatusText(code), len(text), text)
	}
	return all
}()
