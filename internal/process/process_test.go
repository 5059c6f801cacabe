package process

import "testing"

func TestParseStat(t *testing.T) {
	tail := " 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20 21"
	for _, test := range []struct {
		stat   string
		start  uint64
		zombie bool
		fails  bool
	}{
		{stat: "12 (cc-ci) S" + tail, start: 4711},
		{stat: "12 (a) Z 9 9) R" + tail, start: 4711}, // a name may hold anything
		{stat: "12 (cc-ci) Z" + tail, start: 4711, zombie: true},
		{stat: "12 (cc-ci) S 1 2", fails: true},
		{stat: "12 cc-ci", fails: true},
		{stat: "", fails: true},
	} {
		start, zombie, err := parseStat([]byte(test.stat))
		if start != test.start || zombie != test.zombie || (err != nil) != test.fails {
			t.Errorf("parseStat(%q) = %d, %t, %v", test.stat, start, zombie, err)
		}
	}
}
