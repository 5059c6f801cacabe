package enrol

import (
	"reflect"
	"regexp"
	"strings"
	"testing"
)

func TestU1_StarterSetsNothingAndTeachesWhatIsRead(t *testing.T) {
	text := Starter("wiki")
	r, err := Parse("recipe.yml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(r, Default("")) {
		t.Errorf("it sets something: %+v", r)
	}
	// Every setting in it is one: taken out of its comment, the whole is read.
	live := regexp.MustCompile(`(?m)^#([^ \n]|  )`).ReplaceAllString(text, "$1")
	r, err = Parse("recipe.yml", []byte(live))
	if err != nil {
		t.Fatalf("%v\n%s", err, live)
	}
	if len(r.Seed) != 1 || len(r.Verify) != 1 || len(r.Checks) != 1 || r.Env["ADMIN_EMAIL"] == "" || !strings.Contains(text, "How wiki is tested") {
		t.Errorf("%+v", r)
	}
}
