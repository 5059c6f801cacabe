package recipe_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

func TestParseAbra(t *testing.T) {
	env, lines, warnings := recipe.ParseAbra("abra.sh", []byte(strings.Join([]string{
		"#!/bin/bash",
		"export A_VERSION=v1",
		`export B_VERSION="v2" # why`,
		"  export C='v 3' D=v4; export E=v5 && rm -rf /",
		"# export NOT=1",
		"export F=$(touch /tmp/owned)",
		"export G=`id`",
		`export H="$A_VERSION"`,
		"export I='$(literal)'",
		"exported=1",
		"echo 'export J=1'",
		"export -n K",
		"export A_VERSION=v9",
		`export L=a"b"'c'\d`,
		"export M='open",
		"f() {",
		"	export N=in_function",
		"}",
		"export O=v1\r",
		"export 1P=x",
	}, "\n")))
	want := map[string]string{
		"A_VERSION": "v9", "B_VERSION": "v2", "C": "v 3", "D": "v4", "E": "v5",
		"I": "$(literal)", "L": "abcd", "N": "in_function", "O": "v1",
	}
	if diff := cmp.Diff(want, env.Map()); diff != "" {
		t.Error(diff)
	}
	if lines["A_VERSION"] != 13 || lines["D"] != 4 {
		t.Errorf("lines %v", lines)
	}
	var computed []int
	for _, w := range warnings {
		computed = append(computed, w.Line)
	}
	if !slices.Equal(computed, []int{6, 7, 8, 15}) {
		t.Errorf("warnings %v", warnings)
	}
}

func FuzzParseAbra(f *testing.F) {
	f.Add([]byte("export A=v1\nexport B=\"$(x)\" C='d' # e\n"))
	f.Add([]byte("export A='\\\nexport \x00=\xff;export B=1"))
	f.Fuzz(func(t *testing.T, text []byte) {
		env, lines, _ := recipe.ParseAbra("abra.sh", text)
		for _, key := range env.Keys() {
			if strings.Trim(key, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_") != "" {
				t.Fatalf("key %q", key)
			}
			if value := env.Get(key); strings.ContainsAny(value, "\n\x00") || lines[key] < 1 {
				t.Fatalf("%s is %q on line %d", key, value, lines[key])
			}
		}
	})
}
