package recipe

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/docker/cli/cli/compose/types"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// RuleNoBackup is the rule that a stage without a backup refers to.
const RuleNoBackup = "C013"

// ownRules are what upstream's linter lacks (N15): each stands for a way in which a
// recipe that works for its author breaks for operators.
var ownRules = []Rule{
	{ID: "C001", Severity: severityError, Title: "a changed config file comes with a new version variable", Needs: "a base version",
		Hint: "raise the variable that the name of the config uses; swarm refuses to change a config that exists, with an error that names neither", check: checkC001},
	{ID: "C002", Severity: severityError, AbraRefuses: true, Title: "durations and numbers hold no variables",
		Hint: "a value that differs from host to host belongs in an overlay", check: checkC002},
	{ID: "C003", Severity: severityWarning, Title: "a database that is backed up is restored by a hook",
		Hint: "dump in backupbot.backup.pre-hook and load the dump in backupbot.restore.post-hook; the files of a running database are no backup", check: checkC003},
	{ID: "C004", Severity: severityError, AbraRefuses: true, Title: "all compose files state the same version",
		Hint: "docker refuses to merge files of different versions; one without version: counts as 3.13", check: checkC004},
	{ID: "C005", Severity: severityWarning, Title: "nothing is dropped or left literal without a word",
		Hint: "it works, but not as the file reads", check: checkC005},
	{ID: "C006", Severity: severityWarning, Title: "the sample's domain is <recipe>.example.com",
		Hint: "abra app new replaces exactly that text; any other stays in the operator's file", check: checkC006},
	{ID: "C007", Severity: severityError, Title: "the recipe renders, with .env.sample as it is",
		Hint: "docker stack deploy stops at the same place", check: checkC007},
	{ID: "C008", Severity: severityWarning, Title: "the version label reads x.y.z+upstream",
		Hint: `write the deploy label "coop-cloud.${STACK_NAME}.version=1.0.0+VERSION" on app`, check: checkC008},
	{ID: "C009", Severity: severityWarning, Title: "variables new since the base have a default", Needs: "a base version",
		Hint: "an app keeps its env file through an upgrade: write ${X:-default}", check: checkC009},
	{ID: "C010", Severity: severityWarning, Title: "backup labels are of version 2",
		Hint: "backup-bot-two reads backupbot.backup.volumes.<volume>.path and the hooks, and ignores this label", check: checkC010},
	{ID: "C011", Severity: severityWarning, Title: "the version label is raised after a release", Needs: "the repository's tags",
		Hint: "raise the label, or have abra recipe release do it, before operators get these files", check: checkC011},
	{ID: "C012", Severity: severityError, Title: "labels of traefik, backup-bot-two and abra stand under deploy",
		Hint: "move them below deploy: labels: of the service; only labels there are those of the swarm service", check: checkC012},
	{ID: RuleNoBackup, Severity: severityWarning, Title: "a recipe with a volume is backed up",
		Hint: "operators who back the app up get nothing of these volumes, and the recipe stays below level 3 (docs/levels.md)", check: checkC013},
}

// configFile is a config as the files of one version have it.
type configFile struct {
	compose *composeFile
	key     string
	raw     string // its name before interpolation
	name    string
	file    string
	content [sha256.Size]byte // its digest
}

// maxConfigs bounds the files of configs that are read of one tree, in bytes: each can be named
// any number of times.
const maxConfigs = 64 << 20

// configFiles reads the configs of every compose file, used by default or not.
func (t *Tree) configFiles(files []*composeFile) map[string]configFile {
	env, err := t.defaults()
	if err != nil {
		return nil
	}
	out := map[string]configFile{}
	left := maxConfigs
	for _, f := range files {
		for _, key := range sortedKeys(f.section("configs")) {
			raw := rawName([]*composeFile{f}, "configs", key)
			name, err := fill(raw, env.Lookup)
			object, _ := f.section("configs", key)["file"].(string)
			file, err2 := fill(object, env.Lookup)
			if err != nil || err2 != nil || file == "" {
				continue
			}
			content, err := f.read(file, maxConfigFile)
			if err != nil {
				continue // C007 or the admission of the rendered stack reports it
			}
			if left -= len(content) + 4<<10; left < 0 {
				return out // a stack with as many is refused
			}
			if name == "" {
				raw, name = key, "key "+key // docker names it after its key
			}
			out[f.name+" "+key] = configFile{f, key, raw, name, file, sha256.Sum256(content)}
		}
	}
	return out
}

func checkC001(r *lintRun) []place {
	if r.base == nil {
		return nil
	}
	baseFiles := r.base.parseAll(func(string, error) {})
	before, after := r.base.configFiles(baseFiles), r.tree.configFiles(r.files)
	named := map[string][]configFile{}
	for _, id := range sortedKeys(before) {
		named[before[id].name] = append(named[before[id].name], before[id])
	}
	var out []place
	for _, id := range sortedKeys(after) {
		now := after[id]
		same := named[now.name] // perhaps under another key or in another file: swarm goes by the name
		if old := before[id]; old.compose != nil && old.name == now.name {
			same = []configFile{old}
		}
		if len(same) > 0 && !slices.ContainsFunc(same, func(old configFile) bool { return old.content == now.content }) {
			out = append(out, r.unraised(now))
		}
	}
	return out
}

// unraised is where a config whose content has changed is still of the old version.
func (r *lintRun) unraised(c configFile) place {
	at := place{c.compose.name, c.compose.line("configs", c.key), fmt.Sprintf("%s has changed and the config %s is still named %q", shorten(c.file), shorten(c.key), shorten(c.raw))}
	for _, variable := range variablesIn(c.raw) {
		if variable == "STACK_NAME" {
			continue
		}
		if line, ok := r.abraLines[variable]; ok {
			return place{abraName, line, fmt.Sprintf("%s has changed and %s is still %s", shorten(c.file), shorten(variable), shorten(r.abra.Get(variable)))}
		}
		at.message = fmt.Sprintf("%s has changed and %s, which the name of the config %s uses, is still the same", shorten(c.file), shorten(variable), shorten(c.key))
	}
	return at
}

func checkC002(r *lintRun) []place {
	var out []place
	for _, f := range r.files {
		for _, refusal := range f.abraRefusals() {
			out = append(out, place{f.name, refusal.line, refusal.message})
		}
	}
	return out
}

// databaseImage recognises servers whose files cannot be copied while they run.
var databaseImage = regexp.MustCompile(`(?i)(^|[/_-])(postgres|postgresql|postgis|pgvector|timescaledb|pgvecto-rs|mysql|mariadb|percona|mongo|mongodb|couchdb|clickhouse-server|clickhouse|influxdb|cockroach|neo4j|rethinkdb)([:@/_-]|$)`)

func isDatabase(image string) bool {
	name, _, _ := strings.Cut(image[strings.LastIndexByte(image, '/')+1:], ":")
	return databaseImage.MatchString(name) || databaseImage.MatchString(image) && !strings.Contains(name, "exporter") && !strings.Contains(name, "admin")
}

func checkC003(r *lintRun) []place {
	if r.stack == nil {
		return nil
	}
	backed, restores := false, false
	excluded := map[string]bool{}
	for _, s := range r.stack.Config.Services {
		labels, _ := r.stack.BackupLabels(s.Name, s.Deploy.Labels) // what cannot be read fails the stage backup
		for _, label := range labels {
			backed = backed || label.Kind == BackupSwitch && label.On
			if label.Kind == BackupVolume && !label.On {
				excluded[label.Volume] = true
			}
		}
		// A hook on another service may load the dump over the network.
		restores = restores || hasRestoreHook(s) && !isDatabase(s.Image)
	}
	if !backed {
		return nil
	}
	var out []place
	for _, s := range r.stack.Config.Services {
		if !isDatabase(s.Image) || hasRestoreHook(s) || restores {
			continue
		}
		_, dumps := s.Deploy.Labels["backupbot.backup.pre-hook"]
		for _, volume := range s.Volumes {
			if volume.Type != "volume" || volume.Source == "" || excluded[volume.Source] {
				continue
			}
			file, line := findLine(r.active(), "services", s.Name, "deploy", "labels")
			message := fmt.Sprintf("service %s (%s) has no restore hook, and its volume %s is copied while the database runs", shorten(s.Name), shorten(s.Image), shorten(volume.Source))
			if dumps {
				message = fmt.Sprintf("service %s (%s) is dumped before a backup, and no hook loads the dump after a restore", shorten(s.Name), shorten(s.Image))
			}
			out = append(out, place{file, line, message})
			break
		}
	}
	return out
}

func hasRestoreHook(s types.ServiceConfig) bool {
	return s.Deploy.Labels["backupbot.restore.post-hook"] != "" || s.Deploy.Labels["backupbot.restore.pre-hook"] != ""
}

func checkC004(r *lintRun) []place {
	var out []place
	for _, f := range r.files[min(1, len(r.files)):] {
		if f.version() != r.files[0].version() {
			out = append(out, place{f.name, f.line("version"), versionMismatch(r.files[0], f).Message})
		}
	}
	return out
}

func checkC005(r *lintRun) []place {
	if r.stack == nil {
		return nil
	}
	var out []place
	for _, w := range r.stack.Warnings {
		if strings.Contains(w.Message, "abra checks the file before") || strings.Contains(w.Message, "is not run here") || strings.Contains(w.Message, "no service is named app") {
			continue // C002, nothing to mend, R009
		}
		out = append(out, place{w.File, w.Line, w.Message})
	}
	return out
}

func checkC006(r *lintRun) []place {
	want := r.tree.Recipe + ".example.com"
	if got := r.sample.Get("DOMAIN"); got != want && r.sampleErr == nil {
		return []place{{sampleName, r.sample.Lines["DOMAIN"], fmt.Sprintf("DOMAIN is %q, not %s", shorten(got), want)}}
	}
	return nil
}

func checkC007(r *lintRun) []place {
	out := slices.Clone(r.unread)
	if r.renderErr == nil || r.sampleErr != nil {
		return out
	}
	message := r.renderErr.Error()
	if hint := ccci.HintOf(r.renderErr); hint != "" {
		message += " (" + hint + ")"
	}
	known := append(r.tree.allComposeFiles(), sampleName, abraName)
	at := place{errorFile(r.renderErr, known), errorLine(r.renderErr), message}
	for _, p := range out {
		if p.file == at.file {
			return out
		}
	}
	return append(out, at)
}

func checkC008(r *lintRun) []place {
	if r.stack == nil || r.stack.app() == nil {
		return nil
	}
	version := r.stack.Version
	if properLabel.MatchString(version) {
		return nil
	}
	file, line := r.versionLabel()
	if version == "" {
		return []place{{file, line, "the recipe states no version"}}
	}
	return []place{{file, line, fmt.Sprintf("the version is %q", shorten(version))}}
}

// plainVariable matches ${X} and $X: what becomes empty when X is not set.
var plainVariable = regexp.MustCompile(`\$(?:\$|\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*))`)

func checkC009(r *lintRun) []place {
	if r.base == nil || r.stack == nil {
		return nil
	}
	old, err := r.base.sample()
	if err != nil {
		return nil
	}
	var out []place
	for _, f := range r.files {
		if !slices.Contains(r.stack.Files, f.name) {
			continue // an overlay is switched on by an operator who edits the file anyway
		}
		walkTexts(f.dict, nil, func(path []string, text string) {
			for _, m := range plainVariable.FindAllStringSubmatch(text, -1) {
				name := m[1] + m[2]
				_, known := old.Lookup(name)
				_, exported := r.abra.Lookup(name)
				_, stated := r.sample.Lookup(name)
				if name == "" || name == "STACK_NAME" || known || exported || !stated {
					continue
				}
				out = append(out, place{f.name, f.line(path...),
					fmt.Sprintf("%s is new in .env.sample and has no default in %s: apps that exist get an empty text", shorten(name), shortPath(path))})
			}
		})
	}
	return out
}

func checkC010(r *lintRun) []place {
	var out []place
	r.services(func(f *composeFile, name string, service map[string]any) {
		labels := rawMapping(descend(service["deploy"], "labels"))
		for _, key := range []string{"backupbot.backup.path", "backupbot.backup.command"} {
			if _, ok := labels[key]; ok {
				out = append(out, place{f.name, f.line("services", name, "deploy", "labels", key), fmt.Sprintf("service %s has the label %s", shorten(name), key)})
			}
		}
	})
	return out
}

// versionLabel is where the version label stands.
func (r *lintRun) versionLabel() (file string, line int) {
	return findLine(r.active(), "services", "app", "deploy", "labels", "coop-cloud.${STACK_NAME}.version")
}

func checkC011(r *lintRun) []place {
	if r.options.Unbumped == nil || r.stack == nil {
		return nil
	}
	file, line := r.versionLabel()
	return []place{{file, line, fmt.Sprintf("the version is still %s, which the release %s has with other files", shorten(r.tree.Version()), r.options.Unbumped.Tag)}}
}

// actedOn are the labels that something other than the containers' own daemon reads: traefik,
// backup-bot-two and abra look at swarm services.
var actedOn = []string{"traefik.", "backupbot.", "coop-cloud."}

func checkC012(r *lintRun) []place {
	deployed := map[string]map[string]string{}
	r.services(func(_ *composeFile, name string, service map[string]any) {
		if deployed[name] == nil {
			deployed[name] = map[string]string{}
		}
		maps.Copy(deployed[name], rawMapping(descend(service["deploy"], "labels")))
	})
	var out []place
	for _, f := range r.files {
		for _, section := range []struct{ key, kind string }{
			{"services", "service"}, {"volumes", "volume"}, {"networks", "network"}, {"configs", "config"}, {"secrets", "secret"},
		} {
			for _, name := range sortedKeys(f.section(section.key)) {
				var lost []string
				line := 0
				for _, key := range sortedKeys(rawMapping(f.section(section.key, name)["labels"])) {
					_, twice := deployed[name][key]
					if section.key == "services" && twice || !slices.ContainsFunc(actedOn, func(prefix string) bool { return strings.HasPrefix(key, prefix) }) {
						continue
					}
					if lost = append(lost, shorten(key)); len(lost) > mostNamed {
						continue // each line is searched for from the top
					}
					if at := f.line(section.key, name, "labels", key); line == 0 || at < line {
						line = at
					}
				}
				if len(lost) > 0 {
					out = append(out, place{f.name, line, fmt.Sprintf("%s %s has %s under labels:, where nothing reads them", section.kind, shorten(name), enumerate(lost))})
				}
			}
		}
	}
	return out
}

func checkC013(r *lintRun) []place {
	if r.stack == nil || r.stack.backedUp() || r.stack.lostSwitch() != "" { // C012 has the line of a lost one
		return nil
	}
	why, service := r.stack.NoBackup()
	if service == "" {
		return nil
	}
	file, line := findLine(r.active(), "services", service, "deploy", "labels")
	return []place{{file, line, why}}
}

// mostNamed is how many of a list a message names.
const mostNamed = 3

// enumerate names the first few of a list.
func enumerate(list []string) string {
	if len(list) > mostNamed {
		return fmt.Sprintf("%s and %d more", strings.Join(list[:mostNamed], ", "), len(list)-mostNamed)
	}
	return strings.Join(list, ", ")
}
