package checks

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// notes is a small app.
func notes(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/":
		fmt.Fprint(w, "<h1>Notes of wiki</h1>")
	case "/moved":
		http.Redirect(w, r, "/", http.StatusFound)
	case "/items":
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		fmt.Fprint(w, `{"items":[{"id":12345678901234567890,"name":"first","tags":["a"]},{"id":2}],"total":2,"done":true,"none":null,"empty":""}`)
	case "/broken":
		w.WriteHeader(http.StatusInternalServerError)
		fmt.Fprint(w, "stack trace\nat line 7")
	case "/cut":
		w.Header().Set("Content-Length", "100")
		fmt.Fprint(w, "short")
	default:
		http.NotFound(w, r)
	}
}

func TestHTTPStepExpectations(t *testing.T) {
	for name, c := range map[string]struct {
		step ccci.HTTPStep
		want string
	}{
		"defaults":                 {ccci.HTTPStep{}, ""},
		"status":                   {ccci.HTTPStep{Path: "/gone"}, "answered 404, expected 200"},
		"one of several":           {ccci.HTTPStep{Path: "/gone", Expect: ccci.HTTPExpect{Status: []int{200, 404}}}, ""},
		"none of several":          {ccci.HTTPStep{Path: "/broken", Expect: ccci.HTTPExpect{Status: []int{200, 204}}}, "answered 500, expected 200 or 204"},
		"a redirect is an answer":  {ccci.HTTPStep{Path: "/moved", Expect: ccci.HTTPExpect{Status: []int{302}, Headers: map[string]string{"Location": "/"}}}, ""},
		"a redirect is no 200":     {ccci.HTTPStep{Path: "/moved"}, "answered 302"},
		"contains":                 {ccci.HTTPStep{Expect: ccci.HTTPExpect{Contains: []string{"Notes", "{{.Recipe}}"}}}, ""},
		"contains one of two":      {ccci.HTTPStep{Expect: ccci.HTTPExpect{Contains: []string{"Notes", "{{.Marker}}"}}}, `does not hold "ccci-a-1"`},
		"lacks":                    {ccci.HTTPStep{Expect: ccci.HTTPExpect{Lacks: []string{"{{.Marker}}"}}}, ""},
		"lacks not":                {ccci.HTTPStep{Expect: ccci.HTTPExpect{Lacks: []string{"error", "{{.Recipe}}"}}}, `holds "wiki"`},
		"json text":                {ccci.HTTPStep{Path: "/items", Expect: ccci.HTTPExpect{JSON: map[string]string{"items.0.name": "first"}}}, ""},
		"json number, whole":       {ccci.HTTPStep{Path: "/items", Expect: ccci.HTTPExpect{JSON: map[string]string{"items.0.id": "12345678901234567890"}}}, ""},
		"json bool, null, list":    {ccci.HTTPStep{Path: "/items", Expect: ccci.HTTPExpect{JSON: map[string]string{"done": "true", "none": "null", "items.0.tags": `["a"]`}}}, ""},
		"json other value":         {ccci.HTTPStep{Path: "/items", Expect: ccci.HTTPExpect{JSON: map[string]string{"total": "3"}}}, `total is "2", expected "3"`},
		"json no such key":         {ccci.HTTPStep{Path: "/items", Expect: ccci.HTTPExpect{JSON: map[string]string{"items.0.nme": "first"}}}, `has no "items.0.nme"`},
		"json no such item":        {ccci.HTTPStep{Path: "/items", Expect: ccci.HTTPExpect{JSON: map[string]string{"items.2.id": "3"}}}, `2 items`},
		"json negative item":       {ccci.HTTPStep{Path: "/items", Expect: ccci.HTTPExpect{JSON: map[string]string{"items.-1.id": "2"}}}, `2 items`},
		"json into a text":         {ccci.HTTPStep{Path: "/items", Expect: ccci.HTTPExpect{JSON: map[string]string{"items.0.name.x": "first"}}}, `has no`},
		"json of a page":           {ccci.HTTPStep{Expect: ccci.HTTPExpect{JSON: map[string]string{"total": "2"}}}, "is not JSON"},
		"header":                   {ccci.HTTPStep{Path: "/items", Expect: ccci.HTTPExpect{Headers: map[string]string{"content-type": "application/json"}}}, ""},
		"header of another value":  {ccci.HTTPStep{Path: "/items", Expect: ccci.HTTPExpect{Headers: map[string]string{"Content-Type": "text/html"}}}, "header Content-Type"},
		"header not there":         {ccci.HTTPStep{Expect: ccci.HTTPExpect{Headers: map[string]string{"X-None": "x"}}}, `header X-None is ""`},
		"cut answer":               {ccci.HTTPStep{Path: "/cut"}, "reading the response"},
		"no such domain":           {ccci.HTTPStep{Domain: "gone"}, `invalid: no extra domain "gone"`},
		"no such secret":           {ccci.HTTPStep{Path: `/{{index .Secrets "gone"}}`}, `invalid: "gone" has no value`},
		"no such variable":         {ccci.HTTPStep{Body: `{{index .Vars "id"}}`}, `invalid: "id" has no value`},
		"no such field":            {ccci.HTTPStep{Path: "/{{.Pasword}}"}, "invalid: Pasword"},
		"no template":              {ccci.HTTPStep{Path: "/{{.Domain"}, "invalid: reading the template"},
		"missing in contains":      {ccci.HTTPStep{Expect: ccci.HTTPExpect{Contains: []string{`{{index .Vars "x"}}`}}}, `invalid: "x" has no value`},
		"missing in lacks":         {ccci.HTTPStep{Expect: ccci.HTTPExpect{Lacks: []string{`{{index .Vars "x"}}`}}}, `invalid: "x" has no value`},
		"missing in json":          {ccci.HTTPStep{Path: "/items", Expect: ccci.HTTPExpect{JSON: map[string]string{"total": `{{index .Vars "x"}}`}}}, `invalid: "x" has no value`},
		"missing in json body":     {ccci.HTTPStep{JSON: map[string]any{"a": []any{`{{index .Vars "x"}}`}}}, `invalid: "x" has no value`},
		"missing in form":          {ccci.HTTPStep{Form: map[string]string{"a": `{{index .Vars "x"}}`}}, `invalid: "x" has no value`},
		"missing in headers":       {ccci.HTTPStep{Headers: map[string]string{"a": `{{index .Vars "x"}}`}}, `invalid: "x" has no value`},
		"missing in basic":         {ccci.HTTPStep{Basic: `{{index .Secrets "x"}}`}, `invalid: "x" has no value`},
		"missing in header wanted": {ccci.HTTPStep{Expect: ccci.HTTPExpect{Headers: map[string]string{"a": `{{index .Vars "x"}}`}}}, `invalid: "x" has no value`},
		"saved path not there":     {ccci.HTTPStep{Path: "/items", Save: map[string]string{"id": "items.9.id"}}, "has no"},
		"saved value is empty":     {ccci.HTTPStep{Path: "/items", Save: map[string]string{"id": "empty"}}, "empty is empty"},
	} {
		t.Run(name, func(t *testing.T) {
			outcome(t, runner(t, notes).Run(t.Context(), ccci.Step{Name: "ask", HTTP: &c.step}), c.want)
		})
	}
}

// What is sent is what the step says.
func TestHTTPStepRequests(t *testing.T) {
	type seen struct{ Method, Host, URL, Type, User, Password, Body, Extra string }
	for name, c := range map[string]struct {
		step ccci.HTTPStep
		want seen
	}{
		"defaults": {ccci.HTTPStep{}, seen{Method: "GET", Host: domain, URL: "/"}},
		"extra domain": {ccci.HTTPStep{Domain: "sandbox", Path: "/x?y={{.Marker}}"},
			seen{Method: "GET", Host: "sandbox-" + domain, URL: "/x?y=ccci-a-1"}},
		"json": {ccci.HTTPStep{Method: "PUT", JSON: map[string]any{"text": "{{.Marker}}", "n": 1, "list": []any{"{{.Recipe}}", true, nil}}},
			seen{Method: "PUT", Host: domain, URL: "/", Type: "application/json", Body: `{"list":["wiki",true,null],"n":1,"text":"ccci-a-1"}`}},
		"form": {ccci.HTTPStep{Method: "POST", Form: map[string]string{"a": "{{.Marker}}&b", "c": "d"}},
			seen{Method: "POST", Host: domain, URL: "/", Type: "application/x-www-form-urlencoded", Body: "a=ccci-a-1%26b&c=d"}},
		"body and headers": {ccci.HTTPStep{Method: "POST", Body: "is {{.Marker}}", Headers: map[string]string{"X-Extra": "{{.Recipe}}", "Content-Type": "text/plain"}},
			seen{Method: "POST", Host: domain, URL: "/", Type: "text/plain", Body: "is ccci-a-1", Extra: "wiki"}},
		"basic, with a colon in the password": {ccci.HTTPStep{Basic: `admin:{{index .Secrets "admin"}}`},
			seen{Method: "GET", Host: domain, URL: "/", User: "admin", Password: "pa:ss"}},
	} {
		t.Run(name, func(t *testing.T) {
			var got seen
			r := runner(t, func(_ http.ResponseWriter, req *http.Request) {
				body, err := io.ReadAll(req.Body)
				if err != nil {
					t.Error(err)
				}
				user, password, _ := req.BasicAuth()
				got = seen{req.Method, req.Host, req.URL.String(), req.Header.Get("Content-Type"), user, password, string(body), req.Header.Get("X-Extra")}
			})
			if err := r.Run(t.Context(), ccci.Step{HTTP: &c.step}); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// N4: what a step saves is there for every later step about the same data.
func TestN4_SavedValuesAreForLaterStepsOfTheSameMarker(t *testing.T) {
	r := runner(t, notes)
	save := ccci.Step{HTTP: &ccci.HTTPStep{Path: "/items", Save: map[string]string{"id": "items.0.id", "all": "items.1"}}}
	if err := r.Run(t.Context(), save); err != nil {
		t.Fatal(err)
	}
	got, err := r.Vars.Expand(`{{index .Vars "id"}} {{index .Vars "all"}}`)
	if err != nil || got != `12345678901234567890 {"id":2}` {
		t.Errorf("%q, %v", got, err)
	}
	seed := r.WithMarker("ccci-a-1")
	if err := seed.Run(t.Context(), save); err != nil {
		t.Fatal(err)
	}
	if got, err := r.WithMarker("ccci-a-1").Vars.Expand(`{{index .Vars "id"}}`); err != nil || got != "12345678901234567890" {
		t.Errorf("a later list of steps sees %q, %v", got, err)
	}
	other := r.WithMarker("ccci-b-2")
	if _, err := other.Vars.Expand(`{{index .Vars "id"}}`); err == nil {
		t.Error("steps about other data see the variable")
	}
	if other.Vars.Marker != "ccci-b-2" || r.Vars.Marker != "ccci-a-1" {
		t.Errorf("markers %q and %q", other.Vars.Marker, r.Vars.Marker)
	}
	// What was expected and did not come is not saved.
	failing := save
	failing.HTTP = &ccci.HTTPStep{Path: "/items", Expect: ccci.HTTPExpect{Contains: []string{"nothing"}}, Save: map[string]string{"late": "total"}}
	if err := r.Run(t.Context(), failing); err == nil || r.Vars.Vars["late"] != "" {
		t.Errorf("saved %q from a failed step, %v", r.Vars.Vars["late"], err)
	}
}

func TestFailureShowsWhatCame(t *testing.T) {
	err := runner(t, notes).Run(t.Context(), ccci.Step{HTTP: &ccci.HTTPStep{Path: "/broken"}})
	failure, ok := err.(*Failure)
	if !ok || !slices.Equal(failure.Detail, []string{"stack trace", "at line 7"}) {
		t.Errorf("%#v", err)
	}
	long, _ := excerpt([]byte(strings.Repeat("x", 1000) + "\n" + strings.Repeat("y\n", 100)))
	if len(long) != 40 || len(long[0]) > 410 {
		t.Errorf("%d lines, the first of %d bytes", len(long), len(long[0]))
	}
}

func FuzzJSONAt(f *testing.F) {
	f.Add(`{"items":[{"id":1}]}`, "items.0.id")
	f.Add(`[]`, "-1")
	f.Add(`"x"`, "")
	f.Fuzz(func(t *testing.T, body, path string) {
		_, err := jsonAt([]byte(body), path)
		if err == nil && json.NewDecoder(strings.NewReader(body)).Decode(new(any)) != nil {
			t.Errorf("a value of what is no JSON: %q", body)
		}
	})
}
