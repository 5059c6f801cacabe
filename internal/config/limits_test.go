package config

import (
	"strings"
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
)

func TestLimits(t *testing.T) {
	for text, want := range map[string]string{
		"free_disk: 0":                          "",
		"free_disk: 0G, free_memory: 0":         "",
		"free_disk: 100M, free_memory: 16M":     "",
		"memory: 1G":                            "", // the default of container_memory is lowered
		"memory: 6G, container_memory: 6G":      "",
		"container_memory: 3G":                  "",
		"free_disk: 10":                         "limits.free_disk: 10B is less than 100MiB; write a size as 512M or 6G, or 0 to turn it off",
		"free_memory: 1M":                       "limits.free_memory: 1MiB is less than 16MiB",
		"memory: 900G, container_memory: 1000G": "limits.container_memory: 1000G is more than all containers of a run have together: 900G; write at most what limits.memory says",
		"memory: 0":                             "limits.memory: 0 is less than 256MiB",
		"free_disk: -1G":                        "is not a size",
	} {
		_, err := Parse("cc-ci.yml", []byte("limits: {"+text+"}\n"))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error()+"; "+ccci.HintOf(err), want)) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
