package main

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"strings"
	"sync"
)

// lineHandler writes log records as lines for people: what happened, and in brackets what with.
type lineHandler struct {
	attrs slog.Handler // writes the attributes alone, into text
	text  *bytes.Buffer
	mu    *sync.Mutex // of text and out
	out   io.Writer
}

func newLineHandler(out io.Writer, level slog.Level) *lineHandler {
	var text bytes.Buffer
	return &lineHandler{text: &text, mu: &sync.Mutex{}, out: out, attrs: slog.NewTextHandler(&text, &slog.HandlerOptions{
		Level: level,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey || a.Key == slog.MessageKey) {
				return slog.Attr{}
			}
			return a
		},
	})}
}

func (h *lineHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.attrs.Enabled(ctx, level)
}

// Handle writes one line.
func (h *lineHandler) Handle(ctx context.Context, r slog.Record) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.text.Reset()
	if err := h.attrs.Handle(ctx, r); err != nil {
		return err
	}
	line := strings.ReplaceAll(r.Message, "\n", " ")
	switch {
	case r.Level >= slog.LevelError:
		line = "error: " + line
	case r.Level >= slog.LevelWarn:
		line = "warning: " + line
	}
	if attrs := strings.TrimSpace(h.text.String()); attrs != "" {
		line += " (" + attrs + ")"
	}
	_, err := io.WriteString(h.out, line+"\n")
	return err
}

func (h *lineHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return h.with(h.attrs.WithAttrs(attrs))
}

func (h *lineHandler) WithGroup(name string) slog.Handler { return h.with(h.attrs.WithGroup(name)) }

func (h *lineHandler) with(attrs slog.Handler) slog.Handler {
	next := *h
	next.attrs = attrs
	return &next
}
