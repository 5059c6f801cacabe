package harness

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	ccci "github.com/recipe-maintainers/cc-ci"
)

func TestP2_Gains(t *testing.T) {
	const config = "volumes:\n  data:\nconfigs:\n  start:\n    file: start.sh\n    name: ${STACK_NAME}_start_v1\n"
	withConfig := func(text string) []string {
		return []string{"volumes:\n  data:\n", config, "    networks: [proxy]\n", "    networks: [proxy]\n    configs: [{source: start, target: /start.sh, mode: 0755}]\n", "file start.sh", text}
	}
	inService := func(lines string) []string {
		return []string{"    networks: [proxy]\n", "    networks: [proxy]\n" + lines}
	}
	for name, c := range map[string]struct{ base, head, want []string }{
		"nothing":      {},
		"a version":    {nil, []string{"1.0.0+1.0", "1.1.0+1.0"}, nil},
		"stopping":     {nil, inService("    stop_grace_period: 5m\n"), nil},
		"image":        {nil, []string{"shop:1.0", "shop:2.0"}, []string{"changed: service app changed its image [shop:1.0|shop:2.0]"}},
		"command":      {nil, inService("    command: [sh, -c, x]\n"), []string{"changed: service app changed its command [|sh -c x]"}},
		"entrypoint":   {nil, inService("    entrypoint: /start.sh\n"), []string{"changed: service app changed its entrypoint [|/start.sh]"}},
		"health check": {nil, inService("    healthcheck: {test: [CMD, ready]}\n"), []string{"changed: service app changed its health check [|CMD ready]"}},
		"privileged":   {nil, inService("    privileged: true\n"), []string{"changed: service app changed privileged [|true]"}},
		"capability":   {nil, inService("    cap_add: [SYS_ADMIN]\n"), []string{`changed: service app changed cap_add [|["SYS_ADMIN"]]`}},
		"device":       {nil, inService("    devices: [/dev/fuse]\n"), []string{`changed: service app changed devices [|["/dev/fuse"]]`}},
		"namespace":    {nil, inService("    pid: host\n"), []string{`changed: service app changed pid [|"host"]`}},
		"host's file":  {nil, []string{"data:/data", "/var/run/docker.sock:/data"}, []string{"changed: service app mounts something else at /data [data|bind /var/run/docker.sock]"}},
		"folder by a driver": {nil, []string{"volumes:\n  data:", "volumes:\n  data:\n    driver_opts: {type: none, o: bind, device: /etc}"}, []string{
			`changed: volume data changed its driver, options or owner [["",null,false]|["",{"device":"/etc","o":"bind","type":"none"},false]]`}},
		"hook of a backup": {nil, []string{`"backupbot.backup=true"`, `"backupbot.backup=true"` + "\n" + `        - "backupbot.backup.pre-hook=sh -c x"`}, []string{
			"added: service app has the new backup label backupbot.backup.pre-hook [|sh -c x]"}},
		"lost label": {[]string{`"backupbot.backup=true"`, `"backupbot.backup=true"` + "\n" + `        - "traefik.http.routers.${STACK_NAME}.middlewares=auth"`}, nil, []string{
			"removed: service app no longer has the proxy label traefik.http.routers.<stack>.middlewares [auth|]"}},
		"network": {nil, []string{"networks: [proxy]", "networks: [proxy, internal]", "external: true\n", "external: true\n  internal:\n"}, []string{
			"changed: service app is in other networks [proxy|internal, proxy]", "added: network internal is new [|internal]"}},
		"script in a config": {withConfig("a"), withConfig("b"), []string{"changed: config start changed its content [start_v1|start_v1]"}},
		"preloaded library":  {nil, []string{"MODE=slow", "MODE=slow\n      - LD_PRELOAD=/data/x.so"}, []string{"added: service app gets the new variable LD_PRELOAD [|/data/x.so]"}},
		"new service": {nil, []string{"volumes:\n  data:\n", "  worker:\n    image: work:1\n    privileged: true\n    networks: [proxy]\nvolumes:\n  data:\n"}, []string{
			"added: service worker has the image, and is new [|work:1]", "added: service worker is in networks, and is new [|proxy]", "added: service worker changed privileged [|true]"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := words(gains(version(t, "shop-1a2b3c.ci.example.net", nil, c.base...), version(t, "shop-1a2b3c.ci.example.net", nil, c.head...)))
			if diff := cmp.Diff(c.want, got, cmp.Transformer("empty", func(s []string) []string { return append([]string{}, s...) })); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A run of a pull request has its review before anything is judged: also when it is refused, or
// its files cannot be read.
func TestP2_P20_ReviewOfAPullRequest(t *testing.T) {
	for name, c := range map[string]struct {
		files   map[string]string
		changes []string
		lint    []string
		note    string
		refused bool
	}{
		"refused": {map[string]string{"compose.yml": "privileged"},
			[]string{"changed: service app changed privileged [|true]"}, nil, "", true},
		"not readable": {map[string]string{"compose.yml": "services: [", "abra.sh": "x() { :; }\n"},
			[]string{"changed: file abra.sh is changed: abra runs its functions on operators' machines and in containers; cc-ci runs none"}, nil, "cannot be read", true},
		"settings": {map[string]string{
			"tests/shop/recipe.yml":        "helth: {path: /}\nwaivers:\n  - {rule: bind-mounts, service: app, reason: \"it @needs <it>\", owner: ada, expires: 2099-12-31}\n",
			"tests/shop/hooks/pre-install": "#!/bin/sh\n", "tests/shop/README.md": "x", ".drone.yml": "kind: pipeline\n",
		}, []string{
			"changed: file .drone.yml is changed: another CI may run it",
			"changed: file tests/shop/hooks/pre-install is changed: it would run on this host if the enrolment were taken over; in this run it does not",
			"added: waiver bind-mounts is asked for, for service app until 2099-12-31: it @needs <it>",
		}, []string{
			`tests/shop/recipe.yml:1 helth: there is no such setting (did you mean "health"?)`,
			`tests/shop/recipe.yml:3 waivers[0].rule: there is no rule "bind-mounts" (did you mean "bind-mount"?)`,
		}, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			repo, _ := example(t)
			gitOut(t, repo, "checkout", "--quiet", "-b", "proposal", "main")
			for file, text := range c.files {
				path := filepath.Join(repo, file)
				if text == "privileged" {
					before, err := os.ReadFile(path)
					if err != nil {
						t.Fatal(err)
					}
					text = strings.Replace(string(before), "    image:", "    privileged: true\n    image:", 1)
				}
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			gitOut(t, repo, "add", "-A")
			gitOut(t, repo, "commit", "--quiet", "-m", "proposal")
			cfg := newWorld().config(t, repo, ccci.Commit(gitOut(t, repo, "rev-parse", "HEAD")))
			gitOut(t, repo, "checkout", "--quiet", "main")
			gitOut(t, repo, "commit", "--quiet", "--allow-empty", "-m", "meanwhile")
			var result *ccci.Result
			var early []ccci.Result
			w := newWorld()
			cfg.Reviewed = func(_ context.Context, r ccci.Result) error {
				if len(w.events) > 0 && w.count("deploy base")+w.count("deploy head") > 0 {
					t.Error("the review comes after a deployment")
				}
				early = append(early, r)
				return errors.New("nobody reads it")
			}
			synctest.Test(t, func(t *testing.T) { result = live(t, w, cfg, t.Context()) })
			if len(early) != 1 || early[0].RunID != result.RunID || early[0].Commit != result.Commit || early[0].Status != "" {
				t.Fatalf("handed on early: %+v", early)
			}
			if diff := cmp.Diff(result.Review, early[0].Review); diff != "" {
				t.Error(diff)
			}
			if c.refused && result.Status == ccci.StatusPassed {
				t.Errorf("status %s", result.Status)
			}
			r := result.Review
			if r == nil || r.Against != "main" || r.Commit == "" {
				t.Fatalf("%+v", r)
			}
			if diff := cmp.Diff(c.changes, words(r.Changes)); diff != "" {
				t.Error(diff)
			}
			var lint []string
			for _, f := range r.Findings {
				lint = append(lint, fmt.Sprintf("%s:%d %s (%s)", f.File, f.Line, f.Message, f.Hint))
			}
			if diff := cmp.Diff(c.lint, lint); diff != "" {
				t.Error(diff)
			}
			if !strings.Contains(r.Note, c.note) || c.note == "" && r.Note != "" {
				t.Errorf("note %q", r.Note)
			}
		})
	}
}
