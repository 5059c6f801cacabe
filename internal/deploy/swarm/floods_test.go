package swarm

import (
	"strings"
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// A run is ended for a flood of log that lasts, whether one container or all together write it; a loud start is none.
func TestN3_AFloodOfLogIsTooMuch(t *testing.T) {
	quiet, half, loud := []usage{rate("app", 100)}, []usage{rate("app", mostLog/2), rate("db", mostLog/2+2)}, []usage{rate("db", 10), rate("app", 3*mostLog), {what: "volume v", bytes: 1 << 40}}
	for name, c := range map[string]struct {
		measured [][]usage
		want     string
	}{
		"nothing is known": {[][]usage{nil, nil, nil, nil, nil}, ""},
		"a loud start":     {[][]usage{loud, loud, loud, quiet, quiet, quiet}, ""},
		"one service":      {[][]usage{loud, quiet, loud, quiet, loud, quiet, loud}, "service app writes 12MiB"},
		"all together":     {[][]usage{half, half, half, half}, "service db writes 2MiB"},
		"now and then":     {[][]usage{loud, quiet, quiet, quiet, loud, quiet, quiet, quiet, loud, quiet, quiet, quiet, loud}, ""},
		"at the limit":     {[][]usage{{rate("app", mostLog)}, {rate("app", mostLog)}, {rate("app", mostLog)}, {rate("app", mostLog)}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var f floods
			for i, all := range c.measured {
				err := f.judge(all)
				last := i == len(c.measured)-1
				switch {
				case last && c.want != "":
					if err == nil || ccci.CodeOf(err) != ccci.CodeRecipe || !strings.Contains(err.Error(), c.want) {
						t.Errorf("%v, want %q", err, c.want)
					}
				case err != nil:
					t.Errorf("measurement %d: %v", i, err)
				}
			}
		})
	}
}

func rate(service string, bytes int64) usage {
	return usage{log: &logRate{container: service + "-1", service: service, bytes: bytes}}
}
