// Package config reads cc-ci's one configuration file.
package config

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/settings"
)

// Config is the whole configuration. Without a file the defaults make the
// embedded profile: everything on this machine.
type Config struct {
	Data    string `yaml:"data" doc:"Folder for everything that lasts. Default: /var/lib/cc-ci for root, else cc-ci in the user's data folder."`
	Tests   string `yaml:"tests" default:"tests" doc:"Folder with one enrolment folder per recipe."`
	Listen  string `yaml:"listen" default:"127.0.0.1:8480" doc:"Address of the dashboard."`
	URL     string `yaml:"url" doc:"Where people reach the dashboard; goes into comments. Default: http:// and listen."`
	Title   string `yaml:"title" default:"cc-ci" doc:"Name shown on the dashboard."`
	Domain  string `yaml:"domain" default:"ci.localhost" doc:"Apps under test live one label under it."`
	Network string `yaml:"network" default:"proxy" doc:"Name of the network by which recipes reach the proxy. A run replaces it by a network of its own; cc-ci reconcile makes it for apps that are deployed by hand."`
	Log     string `yaml:"log" default:"info" doc:"How much is logged: debug, info, warn or error."`

	Dashboard Dashboard    `yaml:"dashboard" doc:"What readers of the dashboard may hold at a time."`
	Forge     Forge        `yaml:"forge" doc:"Where pull requests are, when they are on this machine."`
	Repos     []Repo       `yaml:"repos" doc:"Enrolled repositories of the local forge."`
	Forges    []ForgeEntry `yaml:"forges" doc:"Where pull requests are otherwise: any number of forges, in place of forge and repos."`
	Bridge    Bridge       `yaml:"bridge" doc:"What other programs reach."`
	Checkouts []Checkout   `yaml:"checkouts" doc:"Checkouts that cc-ci run tests under another enrolment than their directory's name says."`
	Roles     Roles        `yaml:"roles" doc:"Who may use which command: anyone, member, or numeric user ids, separated by commas; member, 7 admits one more."`
	Engine    Engine       `yaml:"engine" doc:"What runs the tests."`
	Limits    Limits       `yaml:"limits" doc:"What runs may take of the machine, and what must be free for one to start."`
	Ingress   Ingress      `yaml:"ingress" doc:"The proxy that apps under test are reached through."`
	Git       Git          `yaml:"git" doc:"Limits for the repositories that are fetched. A repository beyond one is refused, and the refusal names the setting."`
	Badge     Badge        `yaml:"badge" doc:"Badges."`
	Keep      Keep         `yaml:"keep" doc:"How long results are kept."`

	Processes string `yaml:"processes" default:"together" doc:"together: cc-ci serve is bridge and dashboard in one process; apart: cc-ci bridge and cc-ci dashboard are two, on one machine with one data folder."`
	Bus       Bus    `yaml:"bus" doc:"How parts of cc-ci give each other hints."`

	Reconcile Reconcile `yaml:"reconcile" doc:"What cc-ci reconcile makes of this host in production."`

	places        map[string]string // where a file with a secret is named, by its path: "cc-ci.yml:7: forges[0].token_file"
	gatewayPlaces []string          // where each of reconcile.proxy.gateways stands
}

// Forge settings.
type Forge struct {
	Kind string        `yaml:"kind" default:"local" doc:"local: bare repositories and comments on this machine. Others stand in forges."`
	Org  string        `yaml:"org" default:"coop" doc:"Organisation whose members may trigger runs."`
	User string        `yaml:"user" default:"you" doc:"With kind local: who writes in the dashboard's comment box. Is a member."`
	Poll time.Duration `yaml:"poll" default:"5s" doc:"How often repositories are asked for new comments; at most 30s. Hints arrive at once besides."`
}

// Repo is one enrolled repository.
type Repo struct {
	Repo   string `yaml:"repo" doc:"owner/name on the forge."`
	Recipe string `yaml:"recipe" doc:"Recipe it holds; default the repository's name."`
}

// Bridge settings.
type Bridge struct {
	Listen string `yaml:"listen" doc:"Address of /hook, /healthz and /metrics. Default: the dashboard's, where whoever reaches the dashboard reads the figures."`
}

// Engine settings.
type Engine struct {
	Kind     string        `yaml:"kind" default:"local" doc:"local: processes on this machine; drone: builds of a Drone server."`
	Drone    Drone         `yaml:"drone" doc:"The Drone server."`
	Capacity int           `yaml:"capacity" default:"1" doc:"How many runs at a time (MAX_TESTS)."`
	Deadline time.Duration `yaml:"deadline" default:"60m" doc:"A run that takes longer is ended and torn down."`
	Grace    time.Duration `yaml:"grace" default:"6m" doc:"How long a run that is told to end may take for its teardown before it is killed."`
	DNSRR    string        `yaml:"endpoint_mode" default:"auto" doc:"auto: services get endpoint_mode dnsrr where the kernel lacks IPVS; vip: never."`
}

// Ingress settings.
type Ingress struct {
	Kind    string `yaml:"kind" default:"embedded" doc:"embedded: a small proxy that cc-ci starts and removes; traefik: the one that cc-ci reconcile keeps."`
	Listen  string `yaml:"listen" default:"127.0.0.1:0" doc:"With kind embedded: address of its HTTPS port; port 0 takes a free one."`
	Address string `yaml:"address" default:"127.0.0.1:443" doc:"With kind traefik: where it is reached."`
	CAFile  string `yaml:"ca_file" doc:"With kind traefik: file with certificates that are trusted besides the system's."`
}

// Badge settings.
type Badge struct {
	Stale time.Duration `yaml:"stale" default:"1440h" doc:"A badge whose run is older is grey."`
}

// Keep is the retention policy.
type Keep struct {
	Runs int `yaml:"runs" default:"200" doc:"Runs per recipe whose artifacts are kept; the rows in the history stay."`
}

// Default returns the configuration of an absent file.
func Default() Config {
	var c Config
	settings.Defaults(&c)
	return c
}

// Read reads the file at path; an empty path stands for the defaults. Every
// mistake is reported at once, in one Error with CodeInvalid.
func Read(path string) (Config, error) {
	if path == "" {
		c := Default()
		return c, c.finish(settings.NewDecoder("the defaults"))
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Config{}, ccci.Errorf(ccci.CodeInvalid, "there is no configuration file %s", path).
			WithHint("cc-ci config doc lists the settings; without --config the defaults hold")
	}
	if err != nil {
		return Config{}, ccci.Errorf(ccci.CodeInvalid, "reading the configuration: %w", err).WithHint("name a file that you may read")
	}
	return Parse(path, text)
}

// Parse reads the text of a configuration file. Relative paths in it are taken
// from the file's folder.
func Parse(path string, text []byte) (Config, error) {
	d := settings.NewDecoder(path)
	c := Default()
	if d.Decode(text, &c) {
		dir, err := filepath.Abs(filepath.Dir(path))
		if err != nil {
			return c, ccci.Errorf(ccci.CodeInvalid, "finding the folder of %s: %w", path, err).WithHint("name the file by its whole path")
		}
		c.fromFolder(dir)
		c.checkoutsFromFolder(dir)
		c.notePlaces(path, d)
		c.noteGateways(path, d)
		for _, p := range []*string{&c.Data, &c.Tests} {
			if *p != "" && !filepath.IsAbs(*p) && d.Line(keyOf(p, &c)) > 0 {
				*p = filepath.Join(dir, *p)
			}
		}
	}
	return c, c.finish(d)
}

func keyOf(p *string, c *Config) string {
	if p == &c.Data {
		return "data"
	}
	return "tests"
}

// Doc returns the settings as Markdown tables.
func Doc() string { return settings.Doc(reflect.TypeFor[Config]()) }

var hostName = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)+$`)

// finish fills in what depends on other settings and checks what each must be.
func (c *Config) finish(d *settings.Decoder) error {
	bad := func(key, hint, format string, args ...any) { d.Add(d.Line(key), key, hint, format, args...) }
	if c.Data == "" {
		c.Data = defaultData()
	}
	if !isAddress(c.Listen) {
		bad("listen", "write an address and a port, as 127.0.0.1:8480", "%q is not an address", c.Listen)
	}
	if c.Bridge.Listen != "" && !isAddress(c.Bridge.Listen) {
		bad("bridge.listen", "write an address and a port, as 127.0.0.1:8481", "%q is not an address", c.Bridge.Listen)
	}
	if c.URL == "" {
		c.URL = URLOf(c.Listen)
	} else if u, err := url.Parse(c.URL); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		bad("url", "write it as https://ci.example.org", "%q is not a web address", c.URL)
	}
	c.URL = strings.TrimRight(c.URL, "/")
	if !hostName.MatchString(c.Domain) {
		bad("domain", "write a lower-case host name with at least one dot, as ci.example.org", "%q is not a domain", c.Domain)
	} else if len(c.Domain) > 30 {
		bad("domain", "choose a shorter one", "%q has %d characters: with an app's name before it Docker's limits on names leave too little room", c.Domain, len(c.Domain))
	}
	if _, err := c.Level(); err != nil {
		bad("log", "write debug, info, warn or error", "%v", err)
	}
	for _, required := range []struct{ key, value, what string }{
		{"title", c.Title, "the dashboard needs a name"},
		{"tests", c.Tests, "enrolments need a folder"},
		{"network", c.Network, "recipes reach the proxy by a network of this name"},
		{"forge.org", c.Forge.Org, "without an organisation nobody is a member"},
		{"forge.user", c.Forge.User, "whoever writes in the comment box needs a name"},
	} {
		if strings.TrimSpace(required.value) == "" {
			bad(required.key, "leave the key out for its default", "this is empty, and %s", required.what)
		}
	}
	if c.Forge.Kind != "local" {
		hint := settings.Suggest(c.Forge.Kind, []string{KindLocal}, "others than local stand in the list forges")
		bad("forge.kind", hint, "there is no forge of kind %q", c.Forge.Kind)
	}
	if c.Forge.Poll <= 0 || c.Forge.Poll > 30*time.Second {
		bad("forge.poll", "a longer pause would lose the promise of an answer within half a minute", "%s is not between 0 and 30s", c.Forge.Poll)
	}
	finishRepos("repos", c.Repos, bad)
	c.finishCheckouts(bad)
	c.Git.finish(bad)
	c.Dashboard.finish(bad)
	c.finishForges(d, bad)
	c.finishRoles(bad)
	c.finishEngine(bad)
	c.finishReconcile(bad)
	c.finishProcesses(bad)
	if c.Engine.Capacity < 1 || c.Engine.Capacity > 64 {
		bad("engine.capacity", "", "%d is not between 1 and 64", c.Engine.Capacity)
	}
	if c.Engine.Deadline < time.Minute || c.Engine.Deadline > 6*time.Hour {
		bad("engine.deadline", "", "%s is not between 1m and 6h", c.Engine.Deadline)
	}
	if c.Engine.Grace < 10*time.Second {
		bad("engine.grace", "a teardown that is killed leaves things behind", "%s is less than 10s", c.Engine.Grace)
	}
	if c.Engine.DNSRR != "auto" && c.Engine.DNSRR != "vip" {
		bad("engine.endpoint_mode", "write auto or vip", "there is no endpoint mode %q", c.Engine.DNSRR)
	}
	if host, _, _ := net.SplitHostPort(c.Ingress.Listen); !isAddress(c.Ingress.Listen) || net.ParseIP(host) == nil {
		bad("ingress.listen", "write an address and a port, as 127.0.0.1:0", "%q is not an address", c.Ingress.Listen)
	}
	c.finishLimits(bad)
	c.finishIngress(bad)
	if c.Badge.Stale <= 0 {
		bad("badge.stale", "every badge would be grey", "%s is not more than 0", c.Badge.Stale)
	}
	if c.Keep.Runs < 1 {
		bad("keep.runs", "", "%d is less than 1", c.Keep.Runs)
	}
	return d.Err("cc-ci config doc lists every setting with its type and default")
}

// isAddress reports whether text is a host, which may be empty, and a port.
func isAddress(text string) bool {
	_, port, err := net.SplitHostPort(text)
	if err != nil {
		return false
	}
	_, err = strconv.ParseUint(port, 10, 16)
	return err == nil
}

// URLOf returns where a person at this machine reaches what listens on an
// address. One that stands for every interface is none to write into a browser.
func URLOf(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if ip := net.ParseIP(host); err == nil && (host == "" || ip != nil && ip.IsUnspecified()) {
		return "http://localhost:" + port
	}
	return "http://" + listen
}

// Level is the log level.
func (c *Config) Level() (slog.Level, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Log)); err != nil {
		return 0, fmt.Errorf("there is no log level %q", c.Log)
	}
	return level, nil
}

func defaultData() string {
	if os.Geteuid() == 0 {
		return "/var/lib/cc-ci"
	}
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "cc-ci")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		home = os.TempDir()
	}
	return filepath.Join(home, ".local", "share", "cc-ci")
}
