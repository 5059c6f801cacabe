package config

import (
	"fmt"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/settings"
)

// ForgeEntry is one forge of several, or the one that is not on this machine.
type ForgeEntry struct {
	Kind string `yaml:"kind" doc:"gitea (Forgejo too), github, or local: bare repositories and comments on this machine."`
	Name string `yaml:"name" doc:"What runs of this forge are remembered by, and /hook/<name>; must never change. Default: the host of url; local for kind local."`
	URL  string `yaml:"url" doc:"Where the forge is, as https://git.example.org. Default for kind github: https://github.com."`
	Org  string `yaml:"org" doc:"Organisation whose members may trigger runs."`

	TokenFile   string   `yaml:"token_file" doc:"File with the token of cc-ci's own account."`
	App         App      `yaml:"app" doc:"With kind github, in place of a token: a GitHub App."`
	HookSecrets []string `yaml:"hook_secret_files" doc:"Files with secrets that webhooks are signed with: one, or two while it is changed. Without any /hook refuses everything, and polling does it all."`

	Repos    []Repo        `yaml:"repositories" doc:"Enrolled repositories."`
	Discover string        `yaml:"discover" default:"none" doc:"Repositories found besides: none; topic:NAME or team:NAME enrols every repository with that topic, or of that team; org watches all of the organisation and enrols those with a folder in tests."`
	Poll     time.Duration `yaml:"poll" default:"20s" doc:"How often a repository is asked for new comments; at most 30s. Three times as often where something happens."`
}

// App is a GitHub App's installation.
type App struct {
	ID           string `yaml:"id" doc:"The App's client id or number."`
	Installation int    `yaml:"installation" doc:"Number of its installation in the organisation."`
	KeyFile      string `yaml:"key_file" doc:"File with its private key (PEM)."`
}

// Drone settings.
type Drone struct {
	URL       string `yaml:"url" doc:"With engine.kind drone: the Drone server."`
	TokenFile string `yaml:"token_file" doc:"File with the token of a Drone user who may start builds of repo."`
	Repo      string `yaml:"repo" doc:"owner/name of cc-ci's own repository, which holds .drone.yml."`
	Branch    string `yaml:"branch" doc:"Branch whose .drone.yml is used. Default: the repository's default branch."`
	Commit    string `yaml:"commit" doc:"Full hash of the commit of repo whose .drone.yml is used, so that no later push changes what runs on the host. Default: the head of the branch."`
}

// Kinds of forges and engines.
const (
	KindLocal  = "local"
	KindGitea  = "gitea"
	KindGitHub = "github"
	KindDrone  = "drone"
)

// How repositories are discovered.
const (
	DiscoverNone  = "none"
	DiscoverOrg   = "org"
	DiscoverTopic = "topic"
	DiscoverTeam  = "team"
)

// ParseDiscover reads ForgeEntry.Discover: how, and the name of the topic or team.
func ParseDiscover(text string) (how, name string, err error) {
	how, name, named := strings.Cut(text, ":")
	switch how {
	case DiscoverNone, DiscoverOrg:
		if !named {
			return how, "", nil
		}
	case DiscoverTopic, DiscoverTeam:
		if strings.TrimSpace(name) != "" {
			return how, name, nil
		}
	}
	return "", "", ccci.Errorf(ccci.CodeInvalid, "%q says not how to find repositories", text).WithHint("write none, org, topic:NAME or team:NAME")
}

// AllForges returns the forges in use: those of the list, or, without one, the local forge.
func (c *Config) AllForges() []ForgeEntry {
	if len(c.Forges) > 0 {
		return c.Forges
	}
	return []ForgeEntry{{Kind: KindLocal, Name: KindLocal, Org: c.Forge.Org, Repos: c.Repos, Discover: DiscoverNone, Poll: c.Forge.Poll}}
}

// Local returns the local forge's entry, if it is in use.
func (c *Config) Local() (ForgeEntry, bool) {
	all := c.AllForges()
	i := slices.IndexFunc(all, func(f ForgeEntry) bool { return f.Kind == KindLocal })
	if i < 0 {
		return ForgeEntry{}, false
	}
	return all[i], true
}

// fromFolder makes relative paths of secrets start at the file's folder.
func (c *Config) fromFolder(dir string) {
	for _, f := range c.secretFiles() {
		if *f.path != "" && !filepath.IsAbs(*f.path) {
			*f.path = filepath.Join(dir, *f.path)
		}
	}
}

var forgeName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.:_-]{0,99}$`)

type complain func(key, hint, format string, args ...any)

// finishForges fills in and checks the list of forges.
func (c *Config) finishForges(d *settings.Decoder, bad complain) {
	if len(c.Forges) > 0 {
		for _, key := range []string{"forge", "repos"} {
			if d.Line(key) > 0 {
				bad(key, "move it into the list", "this has no meaning beside forges")
			}
		}
	}
	names := map[string]int{}
	for i := range c.Forges {
		f, key := &c.Forges[i], fmt.Sprintf("forges[%d]", i)
		f.finish(key, bad)
		if first, twice := names[f.Name]; twice {
			bad(key+".name", "give each another name", "forges[%d] is called %q too", first, f.Name)
		}
		names[f.Name] = i
	}
	if local, ok := c.Local(); ok && len(c.Forges) > 0 {
		c.Forge.Org, c.Forge.Poll = local.Org, local.Poll
	}
}

func (f *ForgeEntry) finish(key string, bad complain) {
	kinds := []string{KindGitea, KindGitHub, KindLocal}
	switch {
	case f.Kind == "":
		bad(key+".kind", "write "+list(kinds), "a forge is of some kind")
	case !slices.Contains(kinds, f.Kind):
		hint := settings.Suggest(f.Kind, kinds, "write "+list(kinds))
		if settings.Nearest(f.Kind, append(kinds, "forgejo")) == "forgejo" {
			hint = "Forgejo is of kind gitea"
		}
		bad(key+".kind", hint, "there is no forge of kind %q", f.Kind)
	}
	if f.Kind == KindGitHub && f.URL == "" {
		f.URL = "https://github.com"
	}
	f.URL = strings.TrimRight(f.URL, "/")
	u, err := url.Parse(f.URL)
	remote := f.Kind == KindGitea || f.Kind == KindGitHub
	if remote && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.RawQuery != "") {
		bad(key+".url", "write it as https://git.example.org", "%q is not the web address of a forge", f.URL)
	}
	if f.Name == "" && remote && err == nil {
		f.Name = u.Host
	} else if f.Name == "" {
		f.Name = KindLocal
	}
	if !forgeName.MatchString(f.Name) {
		bad(key+".name", "use letters, digits and .:_-", "a forge cannot be called %q", f.Name)
	}
	if f.Org == "" {
		bad(key+".org", "name the organisation that owns the recipes", "without an organisation nobody is a member")
	}
	if f.Poll <= 0 || f.Poll > 30*time.Second {
		bad(key+".poll", "a longer pause would lose the promise of an answer within half a minute", "%s is not between 0 and 30s", f.Poll)
	}
	how, _, err := ParseDiscover(f.Discover)
	if err != nil {
		bad(key+".discover", ccci.HintOf(err), "%v", err)
	}
	finishRepos(key+".repositories", f.Repos, bad)
	if !remote {
		f.finishLocal(key, how, bad)
		return
	}
	f.finishSecrets(key, bad)
	if len(f.Repos) == 0 && how == DiscoverNone {
		bad(key, "list repositories, or let them be found: discover: topic:cc-ci", "this forge has no repository to look at")
	}
}

// finishLocal refuses what the local forge has no use for.
func (f *ForgeEntry) finishLocal(key, how string, bad complain) {
	if f.Kind != KindLocal {
		return
	}
	if f.Name != KindLocal {
		bad(key+".name", "leave it out", "the local forge is called local")
	}
	if f.URL != "" || f.TokenFile != "" || f.App != (App{}) || len(f.HookSecrets) > 0 || how != DiscoverNone && how != "" {
		bad(key, "leave url, token_file, app, hook_secret_files and discover out", "the local forge is in this process and needs no access")
	}
}

func (f *ForgeEntry) finishSecrets(key string, bad complain) {
	app := f.App != App{}
	switch {
	case app && f.Kind != KindGitHub:
		bad(key+".app", "name a token_file", "only GitHub has Apps")
	case app && f.TokenFile != "":
		bad(key+".app", "leave one of them out", "an App and a token exclude each other")
	case app && (f.App.ID == "" || f.App.Installation < 1 || f.App.KeyFile == ""):
		bad(key+".app", "docs/forge-github.md says where they are found", "an App needs id, installation and key_file")
	case !app && f.TokenFile == "":
		bad(key+".token_file", "name a file that holds it", "cc-ci's account needs a token")
	}
	if len(f.HookSecrets) > 2 {
		bad(key+".hook_secret_files", "", "at most two secrets hold at a time, not %d", len(f.HookSecrets))
	}
	if slices.Contains(f.HookSecrets, "") {
		bad(key+".hook_secret_files", "name a file", "a path is empty")
	}
}

// finishRepos fills in and checks a list of repositories.
func finishRepos(key string, repos []Repo, bad complain) {
	seen := map[string]int{}
	for i := range repos {
		r, item := &repos[i], fmt.Sprintf("%s[%d]", key, i)
		ref, err := ccci.ParseRepoRef(r.Repo)
		if err != nil {
			bad(item+".repo", ccci.HintOf(err), "%v", err)
			continue
		}
		if first, twice := seen[r.Repo]; twice {
			bad(item+".repo", "", "%s is already enrolled as %s[%d]", r.Repo, key, first)
		}
		seen[r.Repo] = i
		if r.Recipe == "" {
			r.Recipe = ref.Name
		}
	}
}

// commitPattern matches a whole hash, of either kind that git has.
var commitPattern = regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`)

// finishEngine checks the engine's kind and what belongs to it.
func (c *Config) finishEngine(bad complain) {
	drone := c.Engine.Drone
	switch c.Engine.Kind {
	case KindLocal:
		if drone != (Drone{}) {
			bad("engine.drone", "write engine: {kind: drone}, or leave these out", "the engine is the built-in one")
		}
	case KindDrone:
		if u, err := url.Parse(drone.URL); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			bad("engine.drone.url", "write it as https://drone.example.org", "%q is not the web address of a Drone server", drone.URL)
		}
		if drone.TokenFile == "" {
			bad("engine.drone.token_file", "name a file that holds it", "starting builds needs a token")
		}
		if drone.Commit != "" && !commitPattern.MatchString(drone.Commit) {
			bad("engine.drone.commit", "write the whole hash, as git rev-parse HEAD prints it", "%q is not the hash of a commit", drone.Commit)
		}
		if _, err := ccci.ParseRepoRef(drone.Repo); err != nil {
			bad("engine.drone.repo", ccci.HintOf(err), "%v", err)
		}
	default:
		kinds := []string{KindLocal, KindDrone}
		bad("engine.kind", settings.Suggest(c.Engine.Kind, kinds, "write "+list(kinds)), "there is no engine of kind %q", c.Engine.Kind)
	}
}

// list joins words as a sentence does.
func list(words []string) string {
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}
