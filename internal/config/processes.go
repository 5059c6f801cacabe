package config

import (
	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/settings"
)

// How cc-ci is spread over processes.
const (
	Together = "together"
	Apart    = "apart"
)

// Kinds of buses.
const (
	BusInproc = "inproc"
	BusRedis  = "redis"
)

// Bus settings.
type Bus struct {
	Kind  string `yaml:"kind" default:"inproc" doc:"inproc: within one process; redis: between processes."`
	Redis Redis  `yaml:"redis" doc:"The Redis server."`
}

// Redis settings.
type Redis struct {
	URLFile string `yaml:"url_file" doc:"With bus.kind redis: file with the server's address, as unix://:PASSWORD@/run/redis-cc-ci/redis.sock, or redis://:PASSWORD@HOST:6379/0 on another host (rediss for TLS)."`
}

// finishProcesses refuses processes that could not hear one another.
func (c *Config) finishProcesses(bad complain) {
	oneOf := func(key, what, value string, words ...string) bool {
		for _, w := range words {
			if w == value {
				return true
			}
		}
		bad(key, settings.Suggest(value, words, "write "+list(words)), "there is no %s %q", what, value)
		return false
	}
	spread := oneOf("processes", "way to spread processes", c.Processes, Together, Apart)
	kind := oneOf("bus.kind", "bus of kind", c.Bus.Kind, BusInproc, BusRedis)
	switch {
	case kind && c.Bus.Kind == BusRedis && c.Bus.Redis.URLFile == "":
		bad("bus.redis.url_file", "name a file that holds it, as unix://:PASSWORD@/run/redis-cc-ci/redis.sock", "the bus needs the address of Redis")
	case kind && c.Bus.Kind == BusInproc && c.Bus.Redis != (Redis{}):
		bad("bus.redis", "write bus: {kind: redis, …}, or leave it out", "the bus is within one process")
	}
	if !spread || c.Processes == Together {
		return
	}
	if kind && c.Bus.Kind == BusInproc {
		bad("processes", "write bus: {kind: redis, redis: {url_file: …}}, or processes: together", "apart, bridge and dashboard cannot hear each other: bus.kind is inproc, which ends at the process")
	}
	if c.Bridge.Listen == "" {
		bad("bridge.listen", "name it, as 127.0.0.1:8481, or write processes: together", "apart, the bridge has no dashboard whose address it could share")
	}
}

// Needs refuses a command that belongs to the other way to spread processes.
func (c *Config) Needs(processes, command string) error {
	if c.Processes == processes {
		return nil
	}
	if processes == Apart {
		return ccci.Errorf(ccci.CodeInvalid, "%s is one of two processes, and the configuration says that there is one (processes: %s, bus.kind: %s)", command, c.Processes, c.Bus.Kind).
			WithHint("write processes: apart and bus: {kind: redis, redis: {url_file: …}}, or start cc-ci serve")
	}
	return ccci.Errorf(ccci.CodeInvalid, "%s is bridge and dashboard in one, and the configuration says that they are two (processes: %s)", command, c.Processes).
		WithHint("start cc-ci bridge and cc-ci dashboard, or write processes: together")
}

// ListenOn puts the dashboard at another address than the configuration's, unless
// that is empty. So is its URL, when nobody stated another one.
func (c *Config) ListenOn(address string) {
	if address == "" {
		return
	}
	if c.URL == URLOf(c.Listen) {
		c.URL = URLOf(address)
	}
	c.Listen = address
}
