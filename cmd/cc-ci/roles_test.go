package main

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/recipe-maintainers/cc-ci/bridge"
	"github.com/recipe-maintainers/cc-ci/internal/config"
	"github.com/recipe-maintainers/cc-ci/internal/metrics"
)

// A7: an id of one forge admits nobody on another.
func TestA7_RolesOfSeveralForges(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("abc"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Parse("cc-ci.yml", []byte(`
data: `+t.TempDir()+`
roles: {testme: "member, git.example.org:7, github.com:8"}
forges:
  - {kind: gitea, url: https://git.example.org, org: coop, token_file: `+token+`, repositories: [{repo: coop/wiki}]}
  - {kind: github, org: coop, token_file: `+token+`, repositories: [{repo: coop/blog}]}
`))
	if err != nil {
		t.Fatal(err)
	}
	s := &server{cfg: cfg, log: slog.New(slog.DiscardHandler), metrics: metrics.New(prometheus.NewRegistry())}
	if err := s.openForges(t.Context()); err != nil {
		t.Fatal(err)
	}
	all, err := s.bridgeConfigs()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, c := range all {
		role := c.Roles[bridge.VerbTest]
		got[c.Forge.Name()] = fmt.Sprint(role.Who, role.Users)
	}
	if want := (map[string]string{"git.example.org": "member[7]", "github.com": "member[8]"}); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", got, want)
	}
}
