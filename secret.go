package ccci

import (
	"crypto/hmac"
	"crypto/sha256"
	"log/slog"
)

// Secret is text that must not be shown. It prints as *** whatever the verb,
// and in JSON and logs; Reveal is the one way to the value.
type Secret struct{ value string }

// NewSecret wraps a value.
func NewSecret(value string) Secret { return Secret{value} }

// Reveal returns the value. Call it where it is handed on, never in a log line.
func (s Secret) Reveal() string { return s.value }

func (s Secret) String() string               { return "***" }
func (s Secret) GoString() string             { return "***" }
func (s Secret) LogValue() slog.Value         { return slog.StringValue("***") }
func (s Secret) MarshalText() ([]byte, error) { return []byte("***"), nil }

// SignedBy reports whether mac is the HMAC-SHA256 of body under one of keys. It takes
// as long for each; an empty key fits nothing, and so does having none.
func SignedBy(keys []Secret, body, mac []byte) bool {
	genuine := false
	for _, key := range keys {
		if key.Reveal() == "" {
			continue
		}
		h := hmac.New(sha256.New, []byte(key.Reveal()))
		h.Write(body)
		genuine = hmac.Equal(h.Sum(nil), mac) || genuine
	}
	return genuine
}
