package githubfake

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// The extract of GitHub's published OpenAPI description; extract/main.go made it
// and says how. Its "source" names the package and version.
//
//go:embed testdata/openapi.json
var openapi []byte

// spec checks requests and answers, and completes answers with what is required.
type spec struct {
	Source     string         `json:"source"`
	Defs       map[string]any `json:"$defs"`
	Operations []*operation   `json:"operations"`
	Webhooks   []struct {
		Name string `json:"name"`
		Body any    `json:"body"`
	} `json:"webhooks"`

	query     []*jsonschema.Schema
	body      []*jsonschema.Schema
	responses []map[string]*jsonschema.Schema
	hooks     map[string]*jsonschema.Schema
	basic     *jsonschema.Schema
}

type operation struct {
	Method    string         `json:"method"`
	Path      string         `json:"path"`
	ID        string         `json:"id"`
	Query     map[string]any `json:"query"`
	Body      any            `json:"body"`
	Responses map[string]any `json:"responses"`
}

var loadSpec = sync.OnceValues(func() (*spec, error) {
	s := &spec{hooks: map[string]*jsonschema.Schema{}}
	if err := json.Unmarshal(openapi, s); err != nil {
		return nil, fmt.Errorf("reading the extract of GitHub's OpenAPI: %w", err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(openapi))
	if err != nil {
		return nil, err
	}
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	if err := compiler.AddResource("github.json", doc); err != nil {
		return nil, err
	}
	compile := func(pointer string) *jsonschema.Schema {
		schema, compileErr := compiler.Compile("github.json#" + pointer)
		if compileErr != nil && err == nil {
			err = compileErr
		}
		return schema
	}
	for i, op := range s.Operations {
		at := fmt.Sprintf("/operations/%d", i)
		s.query = append(s.query, compile(at+"/query"))
		var body *jsonschema.Schema
		if op.Body != nil {
			body = compile(at + "/body")
		}
		s.body = append(s.body, body)
		responses := map[string]*jsonschema.Schema{}
		for status := range op.Responses {
			responses[status] = compile(at + "/responses/" + status)
		}
		s.responses = append(s.responses, responses)
	}
	for i, hook := range s.Webhooks {
		s.hooks[hook.Name] = compile(fmt.Sprintf("/webhooks/%d/body", i))
	}
	s.basic = compile("/$defs/basic-error")
	return s, err
})

// Source names the published description that the fake is held against.
func Source() string {
	s, err := loadSpec()
	if err != nil {
		return err.Error()
	}
	return s.Source
}

// find returns the operation of a request, -1 when the extract has none.
func (s *spec) find(method, path string) int {
	best, bestFixed := -1, -1
	parts := strings.Split(path, "/")
	for i, op := range s.Operations {
		template := strings.Split(op.Path, "/")
		if op.Method != method || len(template) != len(parts) {
			continue
		}
		fixed, fits := 0, true
		for j, t := range template {
			switch {
			case t == parts[j]:
				fixed++
			case !strings.HasPrefix(t, "{"):
				fits = false
			}
		}
		if fits && fixed > bestFixed {
			best, bestFixed = i, fixed
		}
	}
	return best
}

// checkRequest says what is wrong with a request, "" for nothing.
func (s *spec) checkRequest(op int, r *http.Request, body []byte) string {
	query := map[string]any{}
	for name, values := range r.URL.Query() {
		kinds, _ := at(s.Operations[op].Query, "properties", name, "type").(string)
		query[name] = values[0]
		if n, err := strconv.Atoi(values[0]); err == nil && kinds == "integer" {
			query[name] = json.Number(strconv.Itoa(n))
		}
	}
	if err := s.query[op].Validate(query); err != nil {
		return fmt.Sprintf("%s: query %s: %v", s.Operations[op].ID, r.URL.RawQuery, err)
	}
	if s.body[op] == nil {
		if len(body) > 0 {
			return fmt.Sprintf("%s: it takes no body", s.Operations[op].ID)
		}
		return ""
	}
	if len(body) == 0 && s.Operations[op].ID == "apps/create-installation-access-token" {
		return "" // optional there
	}
	return s.check(s.body[op], s.Operations[op].ID+": request", body)
}

// checkAnswer says what is wrong with an answer, "" for nothing.
func (s *spec) checkAnswer(op int, status int, body []byte) string {
	what := fmt.Sprintf("%s: answer %d", s.Operations[op].ID, status)
	schema, known := s.responses[op][strconv.Itoa(status)]
	switch {
	case known && len(body) == 0:
		return ""
	case known:
		return s.check(schema, what, body)
	case status >= 400:
		return s.check(s.basic, what, body)
	case status >= 300:
		return "" // the description lists few of them
	}
	return what + " is not in the description"
}

func (s *spec) check(schema *jsonschema.Schema, what string, body []byte) string {
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err == nil {
		err = schema.Validate(value)
	}
	if err != nil {
		return fmt.Sprintf("%s: %v", what, err)
	}
	return ""
}

// CheckWebhook says whether a payload has the shape of a webhook, named as in
// "issue-comment-created".
func CheckWebhook(name string, body []byte) error {
	s, err := loadSpec()
	if err != nil {
		return err
	}
	schema, ok := s.hooks[name]
	if !ok {
		return fmt.Errorf("the extract has no webhook %q", name)
	}
	if problem := s.check(schema, name, body); problem != "" {
		return fmt.Errorf("%s", problem)
	}
	return nil
}

// shape is value with everything added that the named schema requires.
func (s *Server) shape(name string, value map[string]any) any {
	return s.spec.complete(map[string]any{"$ref": "#/$defs/" + name}, value, true)
}

// complete fills in what a schema requires: nothing, where nothing is allowed.
func (s *spec) complete(schema any, value any, present bool) any {
	o, _ := schema.(map[string]any)
	if ref, ok := o["$ref"].(string); ok {
		def, ok := s.Defs[ref[strings.LastIndex(ref, "/")+1:]]
		if !ok {
			panic("githubfake: no schema " + ref)
		}
		return s.complete(def, value, present)
	}
	if present && value == nil {
		return nil
	}
	for _, key := range []string{"anyOf", "oneOf", "allOf"} {
		branches, _ := o[key].([]any)
		if len(branches) == 0 || o["properties"] != nil {
			continue
		}
		if !present && slices.ContainsFunc(branches, func(b any) bool { return at(b, "type") == "null" }) {
			return nil
		}
		if key != "allOf" {
			return s.complete(branches[0], value, present)
		}
		for _, branch := range branches {
			value, present = s.complete(branch, value, present), true
		}
		return value
	}
	kinds := kindsOf(o["type"])
	if !present {
		switch {
		case slices.Contains(kinds, "null"):
			return nil
		case o["enum"] != nil:
			return o["enum"].([]any)[0]
		}
	}
	switch {
	case slices.Contains(kinds, "object") || o["properties"] != nil:
		given, isMap := value.(map[string]any)
		if present && !isMap {
			return value
		}
		out := map[string]any{}
		props, _ := o["properties"].(map[string]any)
		for name, v := range given {
			out[name] = v
			if sub, ok := props[name]; ok {
				out[name] = s.complete(sub, v, true)
			}
		}
		required, _ := o["required"].([]any)
		for _, r := range required {
			if _, ok := out[r.(string)]; !ok {
				out[r.(string)] = s.complete(props[r.(string)], nil, false)
			}
		}
		return out
	case slices.Contains(kinds, "array"):
		list, isList := value.([]any)
		if present && !isList {
			return value
		}
		out := []any{}
		for _, v := range list {
			out = append(out, s.complete(o["items"], v, true))
		}
		return out
	case present:
		return value
	case slices.Contains(kinds, "string") && o["format"] == "date-time":
		return "2020-01-01T00:00:00Z"
	case slices.Contains(kinds, "string"):
		return ""
	case slices.Contains(kinds, "integer"), slices.Contains(kinds, "number"):
		return 1
	case slices.Contains(kinds, "boolean"):
		return false
	}
	return map[string]any{}
}

func kindsOf(v any) []string {
	switch v := v.(type) {
	case string:
		return []string{v}
	case []any:
		var out []string
		for _, k := range v {
			out = append(out, k.(string))
		}
		return out
	}
	return nil
}

func at(v any, keys ...string) any {
	for _, key := range keys {
		o, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = o[key]
	}
	return v
}

// Required says whether GitHub's description promises a field in a named schema:
// path leads to it by property names, each of which must be required.
func Required(name string, path ...string) bool {
	s, err := loadSpec()
	return err == nil && s.required(map[string]any{"$ref": "#/$defs/" + name}, path)
}

func (s *spec) required(schema any, path []string) bool {
	if len(path) == 0 {
		return true
	}
	o, _ := schema.(map[string]any)
	if ref, ok := o["$ref"].(string); ok {
		return s.required(s.Defs[ref[strings.LastIndex(ref, "/")+1:]], path)
	}
	for _, key := range []string{"anyOf", "allOf", "oneOf"} {
		branches, _ := o[key].([]any)
		if slices.ContainsFunc(branches, func(b any) bool { return s.required(b, path) }) {
			return true
		}
	}
	required, _ := o["required"].([]any)
	return slices.Contains(required, any(path[0])) && s.required(at(o, "properties", path[0]), path[1:])
}
