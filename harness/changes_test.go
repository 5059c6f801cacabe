package harness

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

const plainCompose = `version: "3.8"
services:
  app:
    image: shop:1.0
    networks: [proxy]
    volumes: ["data:/data"]
    environment:
      - DOMAIN
      - URL=https://${DOMAIN}/
      - MODE=slow
    deploy:
      labels:
        - "coop-cloud.${STACK_NAME}.version=1.0.0+1.0"
        - "traefik.http.services.${STACK_NAME}.loadbalancer.server.port=8080"
        - "backupbot.backup=true"
volumes:
  data:
networks:
  proxy:
    external: true
`

const plainEnv = "TYPE=shop\nDOMAIN=shop.example.com\nSECRET_TOKEN_VERSION=v1 # length=32\nDB_PASSWORD=correct-horse\n"

// version renders one version of a recipe. edits are pairs of old and new text,
// applied to compose.yml, or to .env.sample where it holds the old one.
func version(t *testing.T, domain string, envFile []byte, edits ...string) *recipe.Stack {
	t.Helper()
	files := map[string]string{"compose.yml": plainCompose, ".env.sample": plainEnv, "abra.sh": ""}
	for i := 0; i < len(edits); i += 2 {
		if text, ok := strings.CutPrefix(edits[i], "file "); ok {
			files[text] = edits[i+1]
			continue
		}
		found := false
		for _, name := range []string{"compose.yml", ".env.sample"} {
			if strings.Contains(files[name], edits[i]) && !found {
				files[name], found = strings.Replace(files[name], edits[i], edits[i+1], 1), true
			}
		}
		if !found {
			t.Fatalf("no file holds %q", edits[i])
		}
	}
	dir := filepath.Join(t.TempDir(), "shop")
	for name, text := range files {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	tree, err := recipe.Open(dir, "0123456789abcdef0123456789abcdef01234567")
	if err != nil {
		t.Fatal(err)
	}
	stack, err := tree.Render(recipe.RenderOptions{Domain: domain, EnvFile: envFile, ChaosVersion: "01234567"})
	if err != nil {
		t.Fatalf("%v (hint: %s)", err, ccci.HintOf(err))
	}
	return stack
}

func words(all []ccci.Change) []string {
	lines := make([]string, 0, len(all))
	for _, c := range all {
		line := c.Kind + ": " + c.Subject + " " + c.What
		if c.Before != "" || c.After != "" {
			line += fmt.Sprintf(" [%s|%s]", c.Before, c.After)
		}
		lines = append(lines, line)
	}
	return lines
}

func TestN8_Changes(t *testing.T) {
	const secret = "volumes:\n  data:\nsecrets:\n  token:\n    external: true\n    name: ${STACK_NAME}_token_${SECRET_TOKEN_VERSION}\n"
	useSecret := []string{"volumes:\n  data:\n", secret, "    networks: [proxy]\n", "    networks: [proxy]\n    secrets: [token]\n"}
	const config = "volumes:\n  data:\nconfigs:\n  conf:\n    file: app.conf\n    name: ${STACK_NAME}_conf_${CONF_VERSION}\n"
	withConfig := func(v, text string) []string {
		return []string{"volumes:\n  data:\n", config, "    networks: [proxy]\n", "    networks: [proxy]\n    configs: [conf]\n",
			"file abra.sh", "export CONF_VERSION=" + v + "\n", "file app.conf", text}
	}
	for name, c := range map[string]struct{ base, head, want []string }{
		"nothing": {},
		"image":   {nil, []string{"shop:1.0", "shop:2.0"}, []string{"changed: image app changed [shop:1.0|shop:2.0]"}},
		"service": {nil, []string{"volumes:\n  data:\n", "  worker:\n    image: work:1\nvolumes:\n  data:\n"}, []string{
			"added: service worker is new [|work:1]", "added: network default is new [|default]"}},
		"volume renamed": {nil, []string{"data:/data", "files:/data", "volumes:\n  data:", "volumes:\n  files:"}, []string{
			"removed: volume data is no longer used: its data stays on the server and the app does not see it [data|]",
			"added: volume files is new [|files]",
			"changed: service app mounts something else at /data [data|files]"}},
		"volume's name": {nil, []string{"volumes:\n  data:", "volumes:\n  data:\n    name: ${STACK_NAME}_other"}, []string{
			"changed: volume data changed its name: the app does not see the data under the old one [data|other]"}},
		"mount target": {nil, []string{"data:/data", "data:/srv"}, []string{
			"removed: service app no longer mounts anything at /data [data|]", "added: service app has a new mount at /srv [|data]"}},
		"networks": {nil, []string{"networks: [proxy]", "networks: [proxy, internal]", "external: true\n", "external: true\n  internal:\n"}, []string{
			"changed: service app is in other networks [proxy|internal, proxy]", "added: network internal is new [|internal]"}},
		"ports": {nil, []string{"    networks: [proxy]\n", "    networks: [proxy]\n    ports: [{target: 22, published: 2222, mode: host}]\n", "port=8080", "port=9090"}, []string{
			"changed: service app changed the proxy label traefik.http.services.<stack>.loadbalancer.server.port [8080|9090]",
			"changed: service app publishes other ports on the server [|2222:22/tcp (host)]"}},
		"secret": {nil, useSecret, []string{"added: secret token is new: an operator must generate it before the upgrade [|v1]"}},
		"secret not generated": {nil, append([]string{"length=32", "generate=false"}, useSecret...), []string{
			"added: secret token is new and not generated: an operator must insert it before the upgrade [|v1]"}},
		"secret gone": {useSecret, nil, []string{"removed: secret token is no longer used [v1|]"}},
		"config": {withConfig("v1", "a"), withConfig("v2", "b"), []string{
			"changed: config conf changed its content [conf_v1|conf_v2]"}},
		"environment": {nil, []string{"MODE=slow", "MODE=fast\n      - HOME_PAGE=https://${DOMAIN}/home", "      - URL=https://${DOMAIN}/\n", ""}, []string{
			"added: service app gets the new variable HOME_PAGE [|https://${DOMAIN}/home]",
			"changed: service app changed the variable MODE [slow|fast]",
			"removed: service app no longer gets the variable URL [https://${DOMAIN}/|]"}},
		"secrets are masked": {nil, []string{"MODE=slow", "MODE=slow\n      - API_TOKEN=hunter22\n      - CONNECT=user=shop password=${DB_PASSWORD}"}, []string{
			"added: service app gets the new variable API_TOKEN [|***]",
			"added: service app gets the new variable CONNECT [|user=shop password=***]"}},
		"env sample": {nil, []string{"TYPE=shop\n", "TYPE=shop\nMAILER=\nCOLOUR=blue\nADMIN_PASSWORD=changeme\n", "SECRET_TOKEN_VERSION=v1", "SECRET_TOKEN_VERSION=v2"}, []string{
			"added: env MAILER is new in .env.sample and has no default: an operator must decide on it",
			"changed: env SECRET_TOKEN_VERSION has a new default in .env.sample: who takes it over must insert the secret again [v1|v2]",
			"added: env ADMIN_PASSWORD is new in .env.sample; apps that exist do not have it [|***]",
			"added: env COLOUR is new in .env.sample; apps that exist do not have it [|blue]"}},
		"health and memory": {nil, []string{"    networks: [proxy]\n", "    networks: [proxy]\n    user: \"1000\"\n    healthcheck: {test: [CMD, ready], interval: 5s}\n", "    deploy:\n", "    deploy:\n      resources: {limits: {memory: 256M}}\n"}, []string{
			"changed: service app changed its health check [|CMD ready, interval 5s]",
			"changed: service app changed its user [|1000]",
			"changed: service app changed its memory limit [|256MiB]"}},
		"labels": {nil, []string{`"backupbot.backup=true"`, `"backupbot.backup=false"` + "\n" + `        - "traefik.http.middlewares.${STACK_NAME}-in.basicauth.users=ada:$$2y$$10"`}, []string{
			"changed: service app changed the backup label backupbot.backup [true|false]",
			"added: service app has the new proxy label traefik.http.middlewares.<stack>-in.basicauth.users [|***]"}},
	} {
		t.Run(name, func(t *testing.T) {
			base := version(t, "shop-1a2b3c.ci.example.net", nil, c.base...)
			// The head gets the base's env file, as in a run.
			head := version(t, "shop-1a2b3c.ci.example.net", base.EnvFile, c.head...)
			if strings.HasPrefix(name, "secret not") { // an env file that has the modifier already
				head = version(t, "shop-1a2b3c.ci.example.net", nil, c.head...)
			}
			got := changes(base, head, nil, nil, 0)
			if diff := cmp.Diff(c.want, words(got), cmp.Transformer("empty", func(s []string) []string { return append([]string{}, s...) })); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestN8_ChangesIgnoreTheAppsOwnNames(t *testing.T) {
	base := version(t, "shop-1a2b3c.ci.example.net", nil)
	head := version(t, "other-9z9z9z.ci.example.org", nil)
	if got := changes(base, head, nil, nil, 0); len(got) > 0 {
		t.Errorf("the same version differs in %q", words(got))
	}
}

func TestN8_ImageSizeIsToldFromFivePerCentOrFiveMiB(t *testing.T) {
	base := version(t, "shop-1a2b3c.ci.example.net", nil)
	const mib = 1 << 20
	for _, c := range []struct {
		before, after int64
		want          []string
	}{
		{100 * mib, 104 * mib, nil},
		{1000 * mib, 1005 * mib, []string{"changed: image app takes 5MiB (0.5 %) more on disk [1000MiB|1005MiB]"}},
		{40 * mib, 38 * mib, []string{"changed: image app takes 2MiB (5.0 %) less on disk [40MiB|38MiB]"}},
		{0, 500 * mib, nil},
	} {
		image := func(size int64) []ccci.Image {
			return []ccci.Image{{Service: "other", Size: 1}, {Service: "app", Size: size}}
		}
		if got := words(changes(base, base, image(c.before), image(c.after), 0)); !slices.Equal(got, c.want) {
			t.Errorf("%d to %d: %q", c.before, c.after, got)
		}
	}
}

func TestN8_ChangesAreBoundedAndWhatMustBeDoneStays(t *testing.T) {
	var env strings.Builder
	for i := range 300 {
		fmt.Fprintf(&env, "\n      - V%03d%s=x", i, strings.Repeat("v", 1000))
	}
	base := version(t, "shop-1a2b3c.ci.example.net", nil)
	head := version(t, "shop-1a2b3c.ci.example.net", base.EnvFile, "MODE=slow", "MODE="+strings.Repeat("ä", 5000)+env.String(), "TYPE=shop\n", "TYPE=shop\nMUST=\n")
	got := changes(base, head, nil, nil, 0)
	if len(got) != maxChanges+1 || got[maxChanges].What != "102 more differences are not listed" || !strings.HasPrefix(got[0].What, "MUST ") {
		t.Errorf("%d changes, first %+v, last %+v", len(got), got[0], got[len(got)-1])
	}
	for _, c := range got {
		if len(c.After)+len(c.What) > 700 {
			t.Errorf("a change has %d and %d bytes", len(c.What), len(c.After))
		}
	}
}

func TestN8_StartUpNeedsBothTimes(t *testing.T) {
	converged := func(stage ccci.StageName, status ccci.CheckStatus, took time.Duration) ccci.Stage {
		return ccci.Stage{Name: stage, Checks: []ccci.Check{{Name: string(stage) + "/converged", Status: status, Duration: took}}}
	}
	install := converged(ccci.StageInstall, ccci.Pass, 8100*time.Millisecond)
	r := &ccci.Result{Stages: []ccci.Stage{install, converged(ccci.StageUpgrade, ccci.Pass, 12*time.Second)}}
	if got := startUp(r); len(got) != 1 || got[0].Before != "8.1 s" || got[0].After != "12.0 s" {
		t.Errorf("%+v", got)
	}
	r.Stages[1] = converged(ccci.StageUpgrade, ccci.Fail, 12*time.Second)
	if got := startUp(r); got != nil {
		t.Errorf("after a failed upgrade: %+v", got)
	}
}

func TestN8_ARunComparesBaseAndHeadWithTheirOwnImages(t *testing.T) {
	base := version(t, "shop-1a2b3c.ci.example.net", nil)
	head := version(t, "shop-1a2b3c.ci.example.net", base.EnvFile, "shop:1.0", "shop:2.0")
	l := &life{instance: &instance{}, base: base, head: head, result: &ccci.Result{Images: []ccci.Image{
		{Service: "app", Stage: "base", Size: 100 << 20}, {Service: "app", Stage: "head", Size: 200 << 20},
	}}}
	// The run's own limit is on both; what the recipe says is less in the base alone.
	l.settings.Limits.Memory = "1G"
	if err := limitMemory(head, "1G"); err != nil {
		t.Fatal(err)
	}
	if err := limitMemory(base, "512M"); err != nil {
		t.Fatal(err)
	}
	l.compare()
	want := []string{
		"changed: image app changed [shop:1.0|shop:2.0]",
		"changed: image app takes 100MiB (100.0 %) more on disk [100MiB|200MiB]",
		"changed: service app changed its memory limit [512MiB|none, or at least 1GiB]",
	}
	if diff := cmp.Diff(want, words(l.result.Changes)); diff != "" {
		t.Error(diff)
	}
	alone := &life{instance: &instance{}, head: head, result: &ccci.Result{Changes: []ccci.Change{}}}
	if alone.compare(); len(alone.result.Changes) != 0 {
		t.Errorf("without a base: %q", words(alone.result.Changes))
	}
}
