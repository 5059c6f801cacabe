package ccci

import "log/slog"

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
