package recipe_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

func TestOpenRefuses(t *testing.T) {
	cases := map[string]struct {
		edits []string
		code  ccci.Code
		want  string
	}{
		"no compose.yml":    {[]string{"compose.yml", ""}, ccci.CodeInvalid, "compose.yml does not exist"},
		"no .env.sample":    {[]string{".env.sample", ""}, ccci.CodeInvalid, ".env.sample does not exist"},
		"broken sample":     {[]string{".env.sample", "A\n"}, ccci.CodeInvalid, ".env.sample line 1"},
		"huge compose.yml":  {[]string{"compose.yml", strings.Repeat("# x\n", 300_000)}, ccci.CodeRefused, "compose.yml is larger than 1024 KiB"},
		"compose is folder": {[]string{"compose.yml", "", "compose.yml/x", "y"}, ccci.CodeRefused, "compose.yml is not a regular file"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := recipe.Open(unpack(t, "page", c.edits...), head)
			wantError(t, err, c.code, c.want)
		})
	}
	_, err := recipe.Open(unpack(t, "page"), "abc")
	wantError(t, err, ccci.CodeInvalid, `"abc" is not a full commit name`)
	_, err = recipe.Open(filepath.Join(t.TempDir(), "none"), "")
	wantError(t, err, ccci.CodeNotFound, "there is no recipe folder")
}

func TestOpenNamesTheRecipe(t *testing.T) {
	dir := unpack(t, "page", ".env.sample", "DOMAIN=x\n")
	if tree := open(t, dir); tree.Recipe != "page" {
		t.Errorf("named %q after its folder", tree.Recipe)
	}
	for text, want := range map[string]string{"TYPE=other:1.0.0+1": "other", "RECIPE=third": "third", "TYPE='../x y'": "page"} {
		write(t, dir, ".env.sample", text+"\n")
		if tree := open(t, dir); tree.Recipe != want {
			t.Errorf("%s: named %q, want %q", text, tree.Recipe, want)
		}
	}
}

func TestVersion(t *testing.T) {
	for label, want := range map[string]string{
		`"coop-cloud.${STACK_NAME}.version=1.7.1+1.27.2"`:            "1.7.1+1.27.2",
		`"coop-cloud.$STACK_NAME.version=0.0.1"`:                     "0.0.1",
		`"coop-cloud.${STACK_NAME}.version=${V:-latest}"`:            "latest",
		`"coop-cloud.${STACK_NAME}.version=${LETS_ENCRYPT_ENV}"`:     "production",
		`"coop-cloud.${STACK_NAME}.version="`:                        "",
		`"coop-cloud.${STACK_NAME}.app.version=v2.4.8-d7d63b0d"`:     "v2.4.8-d7d63b0d",
		`"coop-cloud.other.version=9"`:                               "",
		`"coop-cloud.${STACK_NAME}.version=${X:+y}"`:                 "",
		`"coop-cloud.${STACK_NAME}.version=1"` + "\n        - [odd]": "1",
	} {
		dir := unpack(t, "page")
		replace(t, dir, "compose.yml", `"coop-cloud.${STACK_NAME}.version=1.7.1+1.27.2"`, label)
		if got := open(t, dir).Version(); got != want {
			t.Errorf("%s: version %q, want %q", label, got, want)
		}
	}
	if got := open(t, unpack(t, "page", "compose.yml", "[")).Version(); got != "" {
		t.Errorf("version %q of a file that does not parse", got)
	}
}

func TestComposeFiles(t *testing.T) {
	tree := open(t, unpack(t, "commons"))
	files := func(list string) ([]string, error) {
		var env recipe.Env
		env.Set("COMPOSE_FILE", list)
		return tree.ComposeFiles(env)
	}
	for list, want := range map[string][]string{
		"":                                   {"compose.yml"},
		"compose.yml:db/compose.db.yml":      {"compose.yml", "db/compose.db.yml"},
		" compose.yml : ./compose.mail.yml:": {"compose.yml", "compose.mail.yml"},
		"compose.yml:compose.yml:db/../compose.yml": {"compose.yml"},
	} {
		got, err := files(list)
		if err != nil {
			t.Errorf("%q: %v", list, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
	for list, code := range map[string]ccci.Code{
		"compose.none.yml":       ccci.CodeInvalid,
		"../commons/compose.yml": ccci.CodeRefused,
		"/etc/passwd":            ccci.CodeRefused,
		"db":                     ccci.CodeRefused,
		".git/config":            ccci.CodeInvalid, // there is none here
	} {
		_, err := files(list)
		wantError(t, err, code, "COMPOSE_FILE names")
	}
}

// No file is read from outside the tree, through a symbolic link, or from what would
// block; the loader never comes to open it.
func TestReferencesStayInside(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "secret.txt")
	if err := os.WriteFile(outside, []byte("KEY=of the host\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("HOST_TOKEN", "of the host")
	const configs = "configs:\n  c:\n    name: ${STACK_NAME}_c_v1\n    file: FILE\nnetworks:\n  proxy:"
	const secrets = "secrets:\n  c:\n    name: ${STACK_NAME}_c_v1\n    file: FILE\nnetworks:\n  proxy:"
	const envFile = "    env_file: FILE\n    networks:\n"
	cases := map[string]struct {
		place, file string
		code        ccci.Code
		want        string
	}{
		"config outside":         {configs, outside, ccci.CodeRefused, "outside the recipe"},
		"config above":           {configs, "../../../../etc/passwd", ccci.CodeRefused, "outside the recipe"},
		"config by variable":     {configs, "${EVIL}", ccci.CodeRefused, "outside the recipe"},
		"config through a link":  {configs, "link", ccci.CodeRefused, "link is a symbolic link"},
		"config in a linked dir": {configs, "dir/secret.txt", ccci.CodeRefused, "dir is a symbolic link"},
		"config in git":          {configs, ".git/config", ccci.CodeRefused, "git's own files"},
		"config that is a pipe":  {configs, "pipe", ccci.CodeRefused, "not a regular file"},
		"config that is absent":  {configs, "none", ccci.CodeInvalid, "none does not exist"},
		"config too large":       {configs, "large", ccci.CodeInvalid, "larger than 1000 KiB"},
		"secret outside":         {secrets, outside, ccci.CodeRefused, "outside the recipe"},
		"secret through a link":  {secrets, "link", ccci.CodeRefused, "link is a symbolic link"},
		"env_file outside":       {envFile, outside, ccci.CodeRefused, "outside the recipe"},
		"env_file in a list":     {envFile, "[.env.sample, link]", ccci.CodeRefused, "link is a symbolic link"},
		"env_file asks the host": {envFile, "bare.env", ccci.CodeRefused, `the key "HOST_TOKEN" without a value`},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			dir := unpack(t, "page", "bare.env", "A=1\nHOST_TOKEN\n", ".git/config", "x", "large", strings.Repeat("x", 1_100_000))
			replace(t, dir, ".env.sample", "TYPE=", "EVIL="+outside+"\nTYPE=")
			for link, target := range map[string]string{"link": outside, "dir": filepath.Dir(outside)} {
				if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
					t.Fatal(err)
				}
			}
			if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
				t.Fatal(err)
			}
			old := "networks:\n  proxy:"
			if c.place == envFile {
				old = "    networks:\n"
			}
			replace(t, dir, "compose.yml", old, strings.ReplaceAll(c.place, "FILE", c.file))
			_, err := open(t, dir).Render(recipe.RenderOptions{Domain: domain})
			wantError(t, err, c.code, "compose.yml line ", c.want)
		})
	}
	t.Run("what is inside is read", func(t *testing.T) {
		dir := unpack(t, "page", "some.env", "FROM_FILE=yes\n")
		replace(t, dir, "compose.yml", "    networks:\n", "    env_file: [./some.env]\n    networks:\n")
		s := render(t, open(t, dir), recipe.RenderOptions{})
		if got := service(t, s, "app").Environment["FROM_FILE"]; got == nil || *got != "yes" {
			t.Errorf("env_file gave %v", got)
		}
	})
	t.Run("a compose file that is a link", func(t *testing.T) {
		dir := unpack(t, "page", "compose.yml", "")
		if err := os.Symlink(outside, filepath.Join(dir, "compose.yml")); err != nil {
			t.Fatal(err)
		}
		_, err := recipe.Open(dir, head)
		wantError(t, err, ccci.CodeRefused, "compose.yml is a symbolic link")
	})
}
