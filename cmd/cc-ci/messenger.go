package main

import (
	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/bus/inproc"
	"github.com/recipe-maintainers/cc-ci/internal/bus/redisbus"
	"github.com/recipe-maintainers/cc-ci/internal/config"
)

// messenger carries hints and leases: within this process, or between several.
type messenger struct {
	ccci.Bus
	locker ccci.Locker
	close  func() error
}

// openMessenger opens the bus that the configuration names. It asks Redis for nothing:
// cc-ci starts while it is away.
func openMessenger(cfg config.Config) (messenger, error) {
	if cfg.Bus.Kind != config.BusRedis {
		return messenger{&inproc.Bus{}, &inproc.Locker{}, nothing}, nil
	}
	url, err := cfg.ReadSecret(cfg.Bus.Redis.URLFile)
	if err != nil {
		return messenger{}, err
	}
	bus, err := redisbus.New(url)
	if err != nil {
		return messenger{}, err
	}
	return messenger{bus, bus.Locker(), bus.Close}, nil
}
