package enrol

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/settings"
)

var update = flag.Bool("update", false, "rewrite the expected texts")

// Every folder of testdata/bad is an enrolment with mistakes; problems.txt
// holds every one of them as it is reported.
func TestU8_EveryMistakeAtOnce(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.yml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".yml")
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			_, err = Parse("recipe.yml", text)
			if err == nil {
				t.Fatal("accepted")
			}
			if ccci.CodeOf(err) != ccci.CodeInvalid || ccci.HintOf(err) == "" {
				t.Errorf("code %q, hint %q", ccci.CodeOf(err), ccci.HintOf(err))
			}
			var ps settings.Problems
			if !errors.As(err, &ps) {
				t.Fatalf("no settings.Problems in %T", err)
			}
			golden := strings.TrimSuffix(file, ".yml") + ".txt"
			got := ps.Error() + "\n"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestU1_NoFolderIsTheDefaults(t *testing.T) {
	dir := t.TempDir()
	r, err := Read(dir, "anything")
	if err != nil {
		t.Fatal(err)
	}
	if r.Name != "anything" || r.Dir != "" {
		t.Errorf("name %q, dir %q", r.Name, r.Dir)
	}
	if r.Health.Path != "/" || !reflect.DeepEqual(r.Health.Status, []int{200, 301, 302}) {
		t.Errorf("health %+v", r.Health)
	}
	if r.Timeouts.Deploy != 10*time.Minute || r.Timeouts.Step != time.Minute || r.Limits.Log != "10M" {
		t.Errorf("timeouts %+v, limits %+v", r.Timeouts, r.Limits)
	}

	// A folder with hooks only has the same settings, and a Dir.
	if err := os.Mkdir(filepath.Join(dir, "hooked"), 0o755); err != nil {
		t.Fatal(err)
	}
	h, err := Read(dir, "hooked")
	if err != nil {
		t.Fatal(err)
	}
	if h.Dir != filepath.Join(dir, "hooked") || h.Health.Path != "/" {
		t.Errorf("%+v", h)
	}

	// An empty file is the same again.
	if got, err := Parse("recipe.yml", []byte("# nothing yet\n")); err != nil || !reflect.DeepEqual(got, Default("")) {
		t.Errorf("%v %+v", err, got)
	}
}

func TestA36_WholeEnrolmentIsRead(t *testing.T) {
	r, err := Read("testdata/good", "everything")
	if err != nil {
		t.Fatal(err)
	}
	checks := map[string][2]any{
		"domain":          {r.Domains["sandbox"], "SANDBOX_DOMAIN"},
		"number in env":   {r.Env["MAX"], "1.10"},
		"probe default":   {r.Ready[0].Stable, 1},
		"probe path":      {r.Ready[0].HTTP.Path, "/ready"},
		"probe status":    {len(r.Ready[0].HTTP.Status), 1},
		"tcp service":     {r.Ready[1].TCP.Service, "app"},
		"stable":          {r.Ready[1].Stable, 5},
		"method":          {r.Seed[0].HTTP.Method, "POST"},
		"expect default":  {r.Seed[0].HTTP.Expect.Status[0], 201},
		"step timeout":    {r.Verify[0].Timeout, 5 * time.Second},
		"alias":           {r.Checks[2].Browser[0].Open, "/login"},
		"exec exit":       {r.Checks[0].Exec.Exit, 0},
		"expires":         {r.Waivers[0].Expires, "2027-01-31"},
		"line":            {r.Waivers[0].Line, 69},
		"skip":            {r.Skip[0].Stage, ccci.StageUpgrade},
		"kept default":    {r.Timeouts.Restore, 10 * time.Minute},
		"set":             {r.Timeouts.Deploy, 15 * time.Minute},
		"overlay":         {r.Overlays[0], "compose.ccci.yml"},
		"screenshot path": {r.Screenshot.Path, "/"},
	}
	for name, c := range checks {
		if !reflect.DeepEqual(c[0], c[1]) {
			t.Errorf("%s: got %v, want %v", name, c[0], c[1])
		}
	}
	want := map[string]any{"title": "{{.Marker}}", "public": true, "n": int64(3), "tags": []any{"a", nil}}
	if diff := cmp.Diff(want, r.Seed[0].HTTP.JSON); diff != "" {
		t.Errorf("json body -want +got:\n%s", diff)
	}
}

func TestReadRefusesWhatIsNoEnrolment(t *testing.T) {
	dir := t.TempDir()
	write := func(path, text string) {
		t.Helper()
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("file", "")
	write("misnamed/recipe.yaml", "")
	write("overlay/recipe.yml", "env: {A: 1}\noverlays:\n- compose.ccci.yml\n- link.yml\n")
	write("outside.yml", "")
	if err := os.Symlink("../outside.yml", filepath.Join(dir, "overlay/link.yml")); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"../etc":   "is not the name of a recipe",
		"":         "is not the name of a recipe",
		"file":     "is not a folder",
		"misnamed": "recipe.yaml is not read",
		"overlay":  `recipe.yml:3: overlays[0]: "compose.ccci.yml" does not exist`,
	} {
		_, err := Read(dir, name)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", name, err, want)
		}
	}
	if _, err := Read(dir, "overlay"); err == nil || !strings.Contains(err.Error(), ":4: overlays[1]") {
		t.Errorf("a link out of the folder: %v", err)
	}
}

// A repair names its file and the one version that it is for.
func TestU9_RepairIsAFileOfOursForOneVersion(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want string // "" when it is accepted
	}{
		"whole":           {"upgrade: {repair: [repair.yml], repair_for: 1.2.0+3.4.5}\n", ""},
		"no version":      {"upgrade:\n  repair: [repair.yml]\n", "recipe.yml:2: upgrade.repair: a repair that names no version"},
		"no overlay":      {"upgrade:\n  repair_for: 1.2.0+3.4.5\n", "recipe.yml:2: upgrade.repair_for: there is no repair for 1.2.0+3.4.5"},
		"no such file":    {"upgrade:\n  repair_for: 1.2.0+3.4.5\n  repair:\n  - repair.yml\n  - gone.yml\n", `recipe.yml:5: upgrade.repair[1]: "gone.yml" does not exist`},
		"outside":         {"upgrade: {repair: [../repair.yml], repair_for: 1.2.0+3.4.5}\n", "is not the path of a compose file within this folder"},
		"no compose file": {"upgrade: {repair: [repair.sh], repair_for: 1.2.0+3.4.5}\n", "is not the path of a compose file within this folder"},
		"no tag":          {"upgrade: {repair: [repair.yml], repair_for: '--upload-pack=x'}\n", "is not a version tag"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			folder := filepath.Join(dir, "wiki")
			if err := os.Mkdir(folder, 0o755); err != nil {
				t.Fatal(err)
			}
			for file, text := range map[string]string{FileName: c.text, "repair.yml": "version: '3.8'\n"} {
				if err := os.WriteFile(filepath.Join(folder, file), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			r, err := Read(dir, "wiki")
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%v, want %q", err, c.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if u := r.Upgrade; !reflect.DeepEqual(u.Repair, []string{"repair.yml"}) || u.RepairFor != "1.2.0+3.4.5" {
				t.Errorf("%+v", u)
			}
			if got := Effective(r); got["upgrade.repair"] != "repair.yml" || got["upgrade.repair_for"] != "1.2.0+3.4.5" {
				t.Errorf("effective settings hide the repair: %v", got)
			}
		})
	}
}

func TestNearest(t *testing.T) {
	keys := []string{"path", "status", "contains", "upgrade", "upgrade_env"}
	for word, want := range map[string]string{
		"pathh": "path", "psth": "path", "apth": "path", "sttaus": "status",
		"upgrade-env": "upgrade_env", "Upgrade": "upgrade", "zebra": "", "": "", strings.Repeat("x", 99): "",
	} {
		if got := settings.Nearest(word, keys); got != want {
			t.Errorf("settings.Nearest(%q) = %q, want %q", word, got, want)
		}
	}
}

// U8: no setting without a sentence, no default that does not parse.
func TestU8_EverySettingIsDocumented(t *testing.T) {
	doc := Doc()
	seen := map[reflect.Type]bool{}
	var walk func(reflect.Type)
	walk = func(typ reflect.Type) {
		for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
			typ = typ.Elem()
		}
		if typ.Kind() != reflect.Struct || seen[typ] {
			return
		}
		seen[typ] = true
		for _, f := range settings.FieldsOf(typ) {
			if f.Doc == "" {
				t.Errorf("%s.%s has no doc tag", typ.Name(), f.Key)
			}
			if !strings.Contains(doc, f.Key) || f.Type.Kind() != reflect.Struct && !strings.Contains(doc, strings.ReplaceAll(f.Doc, "|", `\|`)) {
				t.Errorf("%s.%s is not in Doc()", typ.Name(), f.Key)
			}
			walk(f.Type)
		}
	}
	walk(reflect.TypeFor[ccci.Recipe]())
	for _, line := range []string{
		"| `timeouts.deploy` | duration | `10m` |",
		"| `seed` | [list of steps](#step) |",
		"### HTTP step",
		"| `http` | [HTTP step](#http-step) |",
		"| `health.status` | number or list of numbers | `[200, 301, 302]` |",
	} {
		if !strings.Contains(doc, line) {
			t.Errorf("Doc() lacks %q:\n%s", line, doc)
		}
	}
}

func TestU17_EffectiveSettingsAreMasked(t *testing.T) {
	r, err := Read("testdata/good", "everything")
	if err != nil {
		t.Fatal(err)
	}
	got := Effective(r)
	for key, want := range map[string]string{
		"health.path":               "/healthz",
		"timeouts.deploy":           "15m0s",
		"timeouts.restore":          "10m0s",
		"env.MAX":                   "1.10",
		"env.SMTP_PASSWORD":         "***",
		"env.SECRET_SMTP_VERSION":   "v2",
		"env.DATABASE_URL":          "***",
		"secrets.smtp_password":     "***",
		"domains.sandbox":           "SANDBOX_DOMAIN",
		"checks":                    "schema version, log in, log out",
		"skip.upgrade":              "the first release",
		"limits.log":                "10M",
		"screenshot.path":           "/",
		"waivers[0]":                "published-port for app 64738/tcp until 2027-01-31, ops: voice has its own port",
		"backup.expect":             "data/app.db",
		"upgrade_env.SESSION_TOKEN": "***",
	} {
		if got[key] != want {
			t.Errorf("%s = %q, want %q", key, got[key], want)
		}
	}
	for key, value := range got {
		if strings.Contains(value, "hunter2") {
			t.Errorf("%s shows a secret: %s", key, value)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"testdata/bad/*.yml", "testdata/good/*/recipe.yml"} {
		files, _ := filepath.Glob(pattern)
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(text)
		}
	}
	f.Add([]byte("seed: &a\n- *a\n"))
	f.Add([]byte("seed:\n- name: x\n  http:\n    json: &a\n      b: *a\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := Parse("recipe.yml", text)
		if err == nil {
			Effective(r)
			return
		}
		var ps settings.Problems
		if !errors.As(err, &ps) {
			t.Fatalf("an error without problems: %v", err)
		}
		lines := strings.Count(string(text), "\n") + strings.Count(string(text), "\r") + 1 + strings.Count(string(text), "\u2028") + strings.Count(string(text), "\u2029") + strings.Count(string(text), "\u0085")
		for _, p := range ps {
			if p.Message == "" || p.Line < 0 || p.Line > lines+1 {
				t.Fatalf("a problem that says nothing, or points beyond the text: %+v", p)
			}
		}
	})
}

func TestU10_DependenciesAndWhatTheyGive(t *testing.T) {
	r, err := Read("testdata/good", "depends")
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Depends) != 2 || r.Depends[0].Recipe != "login" || r.Depends[0].Version != "1.0.0+1.0.0" || len(r.Depends[0].Setup) != 2 ||
		r.Depends[1].Source != "https://git.example.org/recipes/mail.git" {
		t.Errorf("%+v", r.Depends)
	}
	shown := Effective(r)
	for key, want := range map[string]string{
		"depends.login": "1.0.0+1.0.0", "depends.mail": "newest release https://git.example.org/recipes/mail.git", "secrets.client": masked,
	} {
		if shown[key] != want {
			t.Errorf("%s is shown as %q, want %q", key, shown[key], want)
		}
	}
}
