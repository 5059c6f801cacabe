package recipe_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

func lint(t testing.TB, dir string, base *recipe.Tree, o recipe.LintOptions) []ccci.Finding {
	t.Helper()
	return recipe.Lint(t.Context(), open(t, dir), base, o)
}

// brief is the form in which findings are compared: rule, place, message.
func brief(findings []ccci.Finding) []string {
	var out []string
	for _, f := range findings {
		out = append(out, fmt.Sprintf("%s %s:%d %s", f.Rule, f.File, f.Line, f.Message))
	}
	return out
}

func TestLintGoodRecipes(t *testing.T) {
	if got := brief(lint(t, unpack(t, "page"), open(t, unpack(t, "page")), recipe.LintOptions{})); got != nil {
		t.Errorf("findings in a recipe that keeps every rule: %q", got)
	}
	want := []string{"C005 abra.sh:4 export of BUILT_AT is computed; only literal values are read, so it is left out"}
	if diff := cmp.Diff(want, brief(lint(t, unpack(t, "commons"), open(t, unpack(t, "commons")), recipe.LintOptions{}))); diff != "" {
		t.Error(diff)
	}
}

// N15 and the R-rules: each case breaks one rule of the small recipe, and exactly
// that one is found, where it is.
func TestN15_LintRules(t *testing.T) {
	const volume = "volumes:\n  content:\n"
	cases := []struct {
		rule, file, old, text string
		want                  []string // what the findings hold, in order; the first column is rule and place
	}{
		{"R001", "compose.yml", `version: "3.8"`, `version: "3.9"`, []string{"R001 compose.yml:2 version is 3.9"}},
		{"R002", "compose.yml", "    healthcheck:\n      test: [\"CMD\", \"curl\", \"-f\", \"http://localhost\"]\n", "", []string{"R002 compose.yml:5 service app has no healthcheck"}},
		{"R003", "compose.yml", "nginx:1.27.2", "example.net:5000/nginx", []string{"R003 compose.yml:6 service app: the image example.net:5000/nginx has no tag"}},
		{"R004", "compose.yml", "nginx:1.27.2", "nginx:latest", []string{"R004 compose.yml:6"}},
		{"R004 by variable", "compose.yml", "nginx:1.27.2", "nginx:${TAG:-Latest}", []string{"R004 compose.yml:6"}},
		{"R005", "compose.yml", "nginx:1.27.2", "nginx:bookworm", []string{"R005 compose.yml:6"}},
		{"R007", "README.md", "Healthcheck**: Yes", "Healthcheck**:", []string{"R007 README.md:0 the metadata lacks Healthcheck"}},
		{"R009", "compose.yml", "  app:\n", "  web:\n", []string{"R009 compose.yml:0"}},
		{"R010", "compose.yml", `"traefik.enable=true"`, `"traefik.enable=false"`, []string{"R010 compose.yml:0"}},
		{"R011", "compose.yml", "    image: nginx:1.27.2\n", "    hostname: x\n", []string{"R011 compose.yml:5"}},
		{"R012", "compose.yml", volume, volume + "configs:\n  conf:\n    name: ${STACK_NAME}_conf_v1\n    file: README.md\n", []string{"R012 compose.yml:28 the config conf is named"}},
		{"R015", "compose.yml", volume, volume + "secrets:\n  a_rather_long_name:\n    external: true\n    name: ${STACK_NAME}_a_rather_long_name_v1\n",
			[]string{"C005 compose.yml:28 the secret a_rather_long_name is declared", "R015 compose.yml:28 the secret a_rather_long_name adds 22 characters"}},
		{"C002", "compose.yml", "    deploy:\n", "    stop_grace_period: ${GRACE:-1m}\n    deploy:\n      replicas: ${COUNT:-1}\n",
			[]string{"C002 compose.yml:13 services.app.stop_grace_period is \"${GRACE:-1m}\"", "C002 compose.yml:15 services.app.deploy.replicas"}},
		{"C003 raw files", "compose.yml", "  app:\n", "  db:\n    image: mariadb:11.4\n    healthcheck: {test: [CMD, \"true\"]}\n    volumes: [content:/var/lib/mysql]\n  app:\n",
			[]string{"C003 compose.yml:5 service db (mariadb:11.4) has no restore hook, and its volume content"}},
		{"C003 dump", "compose.yml", "  app:\n", "  db:\n    image: example.net/x/postgis:16.1\n    healthcheck: {test: [CMD, \"true\"]}\n    volumes: [content:/d1]\n    deploy: {labels: {backupbot.backup.pre-hook: dump}}\n  app:\n",
			[]string{"C003 compose.yml:9 service db (example.net/x/postgis:16.1) is dumped before a backup, and no hook"}},
		{"C005", "compose.yml", "    networks:\n", "    tmpfs: /run\n    networks:\n", []string{"C005 compose.yml:7 service app: tmpfs has no effect"}},
		{"C006", ".env.sample", "page.example.com", "hotline.example.com", []string{`C006 .env.sample:2 DOMAIN is "hotline.example.com", not page.example.com`}},
		{"C007", "compose.yml", "    image:", "    platform: linux/arm64\n    image:", []string{"C007 compose.yml:6 compose.yml line 6: services.app Additional property platform"}},
		{"C008", "compose.yml", "version=1.7.1+1.27.2", "version=0.0.1", []string{`C008 compose.yml:18 the version is "0.0.1"`}},
		{"C010", "compose.yml", `"backupbot.backup=true"`, `"backupbot.backup=true"` + "\n        - backupbot.backup.path=/x", []string{"C010 compose.yml:20 service app has the label backupbot.backup.path"}},
		{"C012 backup", "compose.yml", "  app:\n", "  db:\n    image: example.net/x/store:16.1\n    healthcheck: {test: [CMD, \"true\"]}\n    labels:\n      other: x\n      backupbot.backup.pre-hook: dump\n      backupbot.backup: \"true\"\n  app:\n",
			[]string{"C012 compose.yml:10 service db has backupbot.backup, backupbot.backup.pre-hook under labels:, where nothing reads them"}},
		{"C012 beside deploy", "compose.yml", "    networks:\n", "    labels: [\"traefik.enable=true\", \"traefik.http.routers.x.rule=Host(`x`)\"]\n    networks:\n",
			[]string{"C012 compose.yml:7 service app has traefik.http.routers.x.rule under labels:"}},
		{"C012 of a volume", "compose.yml", volume, "volumes:\n  content:\n    labels: {backupbot.backup: \"true\"}\n", []string{"C012 compose.yml:27 volume content has backupbot.backup under"}},
		{"C012 in place of deploy", "compose.yml", "    deploy:\n      labels:\n", "    labels:\n",
			[]string{"R010 compose.yml:0", "C008 compose.yml:5 the recipe states no version", "C012 compose.yml:14 service app has backupbot.backup, coop-cloud.${STACK_NAME}.version, traefik.enable and 2 more under"}},
		{"C013", "compose.yml", `        - "backupbot.backup=true"` + "\n", "", []string{"C013 compose.yml:14 volume content is not backed up: no service has the deploy label backupbot.backup=true; add it under deploy: labels: of service app"}},
		{"C013 switched off", "compose.yml", "backupbot.backup=true", "backupbot.backup=false", []string{"C013 compose.yml:14 volume content is not backed up"}},
		{"C013 without a volume", "compose.yml", "    volumes:\n      - content:/usr/share/nginx/html\n", "    volumes: [{type: tmpfs, target: /usr/share/nginx/html}]\n", nil},
	}
	for _, c := range cases {
		t.Run(c.rule, func(t *testing.T) {
			dir := unpack(t, "page")
			replace(t, dir, c.file, c.old, c.text)
			got := brief(lint(t, dir, nil, recipe.LintOptions{}))
			if len(got) != len(c.want) {
				t.Fatalf("findings %q, want %q", got, c.want)
			}
			for i := range got {
				if !strings.HasPrefix(got[i], c.want[i]) {
					t.Errorf("finding %q, want %q", got[i], c.want[i])
				}
			}
		})
	}
}

func TestLintReleasesAndCatalogue(t *testing.T) {
	got := brief(lint(t, unpack(t, "page"), nil, recipe.LintOptions{
		Releases:  []recipe.Release{{Tag: "1.0.0+1", Annotated: true}, {Tag: "1.1.0+2"}},
		Catalogue: []string{"1.0.0+1"},
	}))
	want := []string{
		"R014 :0 the release tag 1.1.0+2 is lightweight; abra refuses to deploy the recipe",
		"R006 compose.yml:0 version 1.7.1+1.27.2 is not in the catalogue",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// U4: a version that a release has with other files is named, with the line of the label.
func TestU4_AnUnbumpedLabelIsAFinding(t *testing.T) {
	unbumped := recipe.Release{Tag: "v1.7.1", Annotated: true}
	got := brief(lint(t, unpack(t, "page"), nil, recipe.LintOptions{Unbumped: &unbumped}))
	want := []string{"C011 compose.yml:18 the version is still 1.7.1+1.27.2, which the release v1.7.1 has with other files"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// N15: what only a comparison with the base shows.
func TestN15_ChangedConfigWithoutVersion(t *testing.T) {
	base := open(t, unpack(t, "commons"))
	edit := func(edits ...string) []string {
		dir := unpack(t, "commons")
		for i := 0; i < len(edits); i += 3 {
			replace(t, dir, edits[i], edits[i+1], edits[i+2])
		}
		var out []string
		for _, f := range lint(t, dir, base, recipe.LintOptions{}) {
			if f.Rule == "C001" || f.Rule == "C009" {
				out = append(out, brief([]ccci.Finding{f})...)
			}
		}
		return out
	}
	// Also in an overlay in a subfolder, and the place is the line to change.
	want := []string{"C001 abra.sh:3 db/pg_backup.sh has changed and PG_BACKUP_VERSION is still v3"}
	if diff := cmp.Diff(want, edit("db/pg_backup.sh", "set -e", "set -eu")); diff != "" {
		t.Error(diff)
	}
	// Swarm goes by the name: under another key, or from another file, it is the same config.
	if diff := cmp.Diff(want, edit("db/pg_backup.sh", "set -e", "set -eu", "db/compose.db.yml", "source: pg_backup\n", "source: dump\n", "db/compose.db.yml", "  pg_backup:\n", "  dump:\n")); diff != "" {
		t.Error(diff)
	}
	const config = "  pg_backup:\n    name: ${STACK_NAME}_pg_backup_${PG_BACKUP_VERSION}\n    file: db/pg_backup.sh\n"
	if diff := cmp.Diff(want, edit("db/pg_backup.sh", "set -e", "set -eu", "db/compose.db.yml", "\nconfigs:\n"+config, "", "compose.yml", "\nconfigs:\n", "\nconfigs:\n"+config)); diff != "" {
		t.Error(diff)
	}
	if got := edit("db/compose.db.yml", "\nconfigs:\n"+config, "", "compose.yml", "\nconfigs:\n", "\nconfigs:\n"+config); got != nil {
		t.Errorf("the content is the same, and yet: %q", got)
	}
	if got := edit("db/pg_backup.sh", "set -e", "set -eu", "abra.sh", `"v3"`, `"v4"`); got != nil {
		t.Errorf("the version was raised, and yet: %q", got)
	}
	// The variable need not stand in abra.sh.
	named := func(dir string) { replace(t, dir, "db/compose.db.yml", "${PG_BACKUP_VERSION}", "${HOOK_VERSION:-v1}") }
	before, after := unpack(t, "commons"), unpack(t, "commons")
	named(before)
	named(after)
	replace(t, after, "db/pg_backup.sh", "set -e", "set -eu")
	got := brief(lint(t, after, open(t, before), recipe.LintOptions{}))
	if want := "C001 db/compose.db.yml:35 db/pg_backup.sh has changed and HOOK_VERSION, which the name of the config pg_backup uses, is still the same"; !slices.Contains(got, want) {
		t.Errorf("findings %q, want %q", got, want)
	}
	want = []string{"C009 compose.yml:13 NEW_ONE is new in .env.sample and has no default in services.app.environment.NEW_ONE: apps that exist get an empty text"}
	if diff := cmp.Diff(want, edit(".env.sample", "FLAVOUR=", "NEW_ONE=1\nFLAVOUR=", "compose.yml", "      DB_HOST:", "      NEW_ONE: ${NEW_ONE}\n      DB_HOST:")); diff != "" {
		t.Error(diff)
	}
	if got := edit(".env.sample", "FLAVOUR=", "NEW_ONE=1\nFLAVOUR=", "compose.yml", "      DB_HOST:", "      NEW_ONE: ${NEW_ONE:-1}\n      DB_HOST:"); got != nil {
		t.Errorf("the variable has a default, and yet: %q", got)
	}
}

// N15: overlays that are not switched on are judged too.
func TestN15_VersionsOfOverlays(t *testing.T) {
	dir := unpack(t, "commons")
	replace(t, dir, "compose.mail.yml", `"3.8"`, `"3.7"`)
	got := brief(lint(t, dir, nil, recipe.LintOptions{}))
	if len(got) != 3 || !strings.HasPrefix(got[1], "C004 compose.mail.yml:2 ") || !strings.HasPrefix(got[2], "R001 compose.mail.yml:2 ") {
		t.Errorf("findings %q", got)
	}
}

func TestLintOutput(t *testing.T) {
	findings := []ccci.Finding{
		{Rule: "C001", Severity: "error", File: "abra.sh", Line: 3, Message: "x has \x1b[31mchanged", Hint: "raise it with a new version"},
		{Rule: "R014", Severity: "warning", Message: "a tag"},
	}
	var text bytes.Buffer
	if err := recipe.WriteText(&text, findings, 20); err != nil {
		t.Fatal(err)
	}
	want := `C001  error    abra.sh:3
    x has
    [31mchanged
    → raise it with
      a new version
R014  warning
    a tag
1 error, 1 warning
`
	if diff := cmp.Diff(want, text.String()); diff != "" {
		t.Error(diff)
	}

	var raw bytes.Buffer
	if err := recipe.WriteJSON(&raw, findings); err != nil {
		t.Fatal(err)
	}
	var back []ccci.Finding
	if err := json.Unmarshal(raw.Bytes(), &back); err != nil || !cmp.Equal(back, findings) {
		t.Errorf("JSON does not read back: %v %v", err, back)
	}
	raw.Reset()
	if err := recipe.WriteJSON(&raw, nil); err != nil || raw.String() != "[]\n" {
		t.Errorf("no findings are %q, %v", raw.String(), err)
	}
}

func TestLintSARIF(t *testing.T) {
	var raw bytes.Buffer
	err := recipe.WriteSARIF(&raw, []ccci.Finding{{Rule: "C001", Severity: "error", File: "db/a b.sh", Line: 3, Message: "m"}, {Rule: "R014", Severity: "error", Message: "n"}})
	if err != nil {
		t.Fatal(err)
	}
	var log struct {
		Schema  string `json:"$schema"`
		Version string
		Runs    []struct {
			Tool struct {
				Driver struct{ Rules []struct{ ID string } }
			}
			Results []struct {
				RuleID    string
				RuleIndex int
				Level     string
				Locations []struct {
					PhysicalLocation struct {
						ArtifactLocation struct{ URI string }
						Region           struct{ StartLine int }
					}
				}
			}
		}
	}
	if err := json.Unmarshal(raw.Bytes(), &log); err != nil {
		t.Fatal(err)
	}
	if log.Version != "2.1.0" || len(log.Runs) != 1 || len(log.Runs[0].Results) != 2 {
		t.Fatalf("log %+v", log)
	}
	for _, r := range log.Runs[0].Results {
		if got := log.Runs[0].Tool.Driver.Rules[r.RuleIndex].ID; got != r.RuleID {
			t.Errorf("rule index of %s points at %s", r.RuleID, got)
		}
	}
	if got := log.Runs[0].Results[0].Locations[0].PhysicalLocation; got.ArtifactLocation.URI != "db/a%20b.sh" || got.Region.StartLine != 3 {
		t.Errorf("location %+v", got)
	}
	if log.Runs[0].Results[1].Locations != nil {
		t.Error("a finding without a file has a location")
	}
}

// What is no recipe at all is reported in the same form.
func TestLintDir(t *testing.T) {
	cases := map[string]struct {
		edit, text string
		want       string
	}{
		"no sample":     {".env.sample", "", "R008 .env.sample:0 .env.sample does not exist in the recipe"},
		"broken sample": {".env.sample", "A=1\nnonsense\n", `R008 .env.sample:2 .env.sample line 2: "nonsense" is no assignment`},
		"no compose":    {"compose.yml", "", "C007 compose.yml:0 compose.yml does not exist in the recipe"},
		"no YAML":       {"compose.yml", "a: [\n", "C007 compose.yml:2 compose.yml: yaml: line 2:"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			findings, err := recipe.LintDir(t.Context(), unpack(t, "page", c.edit, c.text), head, nil, recipe.LintOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if got := brief(findings); len(got) != 1 || !strings.HasPrefix(got[0], c.want) {
				t.Errorf("findings %q, want %q", got, c.want)
			}
		})
	}
	_, err := recipe.LintDir(t.Context(), t.TempDir()+"/none", head, nil, recipe.LintOptions{})
	wantError(t, err, ccci.CodeNotFound, "no recipe folder")
}
