package config

import "time"

// Git holds the limits for the repositories that are fetched.
type Git struct {
	FetchMiB  int           `yaml:"fetch_mib" default:"256" doc:"MiB that one fetch may store."`
	Objects   int           `yaml:"objects" default:"200000" doc:"Objects that one fetch may bring."`
	Refs      int           `yaml:"refs" default:"10000" doc:"Tags that a repository may have."`
	Time      time.Duration `yaml:"time" default:"5m" doc:"How long one fetch may take."`
	MemoryMiB int           `yaml:"memory_mib" default:"1024" doc:"MiB of memory that each process of git may take."`
	Files     int           `yaml:"files" default:"10000" doc:"Files of one commit."`
	TreeMiB   int           `yaml:"tree_mib" default:"64" doc:"MiB of the files of one commit."`
	Depth     int           `yaml:"depth" default:"32" doc:"Folders above a file."`
}

func (g Git) finish(bad complain) {
	for _, x := range []struct {
		key             string
		value, min, max int
	}{
		{"fetch_mib", g.FetchMiB, 1, 1 << 20}, {"objects", g.Objects, 1, 1 << 30}, {"refs", g.Refs, 1, 1 << 30},
		{"memory_mib", g.MemoryMiB, 128, 1 << 20}, {"files", g.Files, 1, 1 << 30}, {"tree_mib", g.TreeMiB, 1, 1 << 20},
		{"depth", g.Depth, 1, 1000},
	} {
		if x.value < x.min || x.value > x.max {
			bad("git."+x.key, "leave the key out for its default", "%d is not between %d and %d", x.value, x.min, x.max)
		}
	}
	if g.Time < time.Second || g.Time > time.Hour {
		bad("git.time", "leave the key out for its default", "%s is not between 1s and 1h", g.Time)
	}
}
