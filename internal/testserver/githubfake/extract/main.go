// Command extract cuts from GitHub's published OpenAPI description what the fake
// and its contract test need: the operations listed below with the schemas that
// they reach, as plain JSON Schema (draft 2020-12), without prose and examples.
//
//	npm pack @octokit/openapi && tar xzf octokit-openapi-*.tgz
//	go run ./internal/testserver/githubfake/extract package/generated/api.github.com.json > internal/testserver/githubfake/testdata/openapi.json
package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
)

// operations are those that the adapter uses, and those of the behaviour table.
var operations = []string{
	"GET /user",
	"GET /user/{account_id}",
	"GET /users/{username}",
	"GET /app",
	"POST /app/installations/{installation_id}/access_tokens",
	"GET /orgs/{org}/memberships/{username}",
	"GET /orgs/{org}/members/{username}",
	"GET /user/memberships/orgs/{org}",
	"GET /repos/{owner}/{repo}/issues/comments",
	"GET /repos/{owner}/{repo}/issues/comments/{comment_id}",
	"PATCH /repos/{owner}/{repo}/issues/comments/{comment_id}",
	"GET /repos/{owner}/{repo}/issues/{issue_number}/comments",
	"POST /repos/{owner}/{repo}/issues/{issue_number}/comments",
	"GET /repos/{owner}/{repo}/issues/{issue_number}/timeline",
	"GET /repos/{owner}/{repo}/pulls",
	"GET /repos/{owner}/{repo}/pulls/{pull_number}",
	"GET /repos/{owner}/{repo}/git/commits/{commit_sha}",
	"GET /repos/{owner}/{repo}/activity",
	"GET /repos/{owner}/{repo}/commits/{ref}/check-suites",
	"GET /repos/{owner}/{repo}/commits/{ref}/check-runs",
	"POST /repos/{owner}/{repo}/check-runs",
	"PATCH /repos/{owner}/{repo}/check-runs/{check_run_id}",
	"POST /repos/{owner}/{repo}/statuses/{sha}",
	"GET /repos/{owner}/{repo}",
	"GET /orgs/{org}/repos",
	"GET /orgs/{org}/teams/{team_slug}/repos",
	"GET /app/hook/deliveries",
}

var webhooks = []string{"issue-comment-created", "issue-comment-edited", "issue-comment-deleted", "ping"}

// narrowed keeps of a choice of schemas only those that the fake produces.
var narrowed = map[string][]string{
	"timeline-issue-events": {"timeline-comment-event", "timeline-committed-event", "state-change-issue-event"},
}

// deviations are places where GitHub is known to answer null although its
// description does not say so: the head of a pull request whose fork was deleted.
var deviations = [][]string{
	{"pull-request", "properties", "head", "properties", "repo"},
	{"pull-request", "properties", "head", "properties", "user"},
	{"pull-request-simple", "properties", "head", "properties", "repo"},
	{"pull-request-simple", "properties", "head", "properties", "user"},
}

type object = map[string]any

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: extract api.github.com.json")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "extract:", err)
		os.Exit(1)
	}
}

func run(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	x := extract{defs: object{}}
	if err := json.Unmarshal(text, &x.doc); err != nil {
		return fmt.Errorf("reading %s: %w", path, err)
	}
	var ops, hooks []any
	for _, name := range operations {
		method, path, _ := strings.Cut(name, " ")
		op := at(x.doc, "paths", path, strings.ToLower(method))
		if op == nil {
			return fmt.Errorf("the description has no operation %s", name)
		}
		ops = append(ops, x.operation(method, path, op.(object)))
	}
	for _, name := range webhooks {
		hook := at(x.doc, "x-webhooks", name, "post")
		if hook == nil {
			return fmt.Errorf("the description has no webhook %s", name)
		}
		hooks = append(hooks, object{"name": name, "body": x.content(hook.(object)["requestBody"])})
	}
	for _, path := range deviations {
		last := len(path) - 1
		parent, ok := at(x.defs, path[:last]...).(object)
		if !ok || parent[path[last]] == nil {
			return fmt.Errorf("there is no %s to deviate from", strings.Join(path, "/"))
		}
		parent[path[last]] = object{"anyOf": []any{parent[path[last]], object{"type": "null"}}}
	}
	version := at(x.doc, "info", "version")
	return json.NewEncoder(os.Stdout).Encode(object{
		"source":     fmt.Sprintf("npm package @octokit/openapi %v (MIT), generated/api.github.com.json, sha256 %x", version, sha256.Sum256(text)),
		"deviations": deviations,
		"$defs":      x.defs, "operations": ops, "webhooks": hooks,
	})
}

type extract struct {
	doc  object
	defs object
}

func (x *extract) operation(method, path string, op object) object {
	out := object{"method": method, "path": path, "id": op["operationId"], "responses": object{}}
	query, required := object{}, []any{}
	for _, p := range list(op["parameters"]) {
		param := x.resolve(p)
		if param["in"] != "query" {
			continue
		}
		name := param["name"].(string)
		query[name] = x.schema(param["schema"])
		if param["required"] == true {
			required = append(required, name)
		}
	}
	out["query"] = object{"type": "object", "properties": query, "required": required, "additionalProperties": false}
	if body, ok := op["requestBody"]; ok {
		out["body"] = x.content(body)
	}
	for status, r := range op["responses"].(object) {
		out["responses"].(object)[status] = x.content(x.resolve(r))
	}
	return out
}

// content is the JSON schema of a body; true stands for a body without one.
func (x *extract) content(v any) any {
	content, _ := x.resolve(v)["content"].(object)
	media, ok := content["application/json"].(object)
	if !ok {
		return true
	}
	return x.schema(media["schema"])
}

func (x *extract) resolve(v any) object {
	o, _ := v.(object)
	if ref, ok := o["$ref"].(string); ok {
		return x.resolve(at(x.doc, strings.Split(strings.TrimPrefix(ref, "#/"), "/")...))
	}
	return o
}

// schema turns an OpenAPI 3.0 schema into JSON Schema, without prose.
func (x *extract) schema(v any) any {
	in, ok := v.(object)
	if !ok {
		return v
	}
	if ref, ok := in["$ref"].(string); ok {
		name := ref[strings.LastIndex(ref, "/")+1:]
		if _, seen := x.defs[name]; !seen {
			x.defs[name] = true // it may contain itself
			def := x.resolve(in)
			if keep, ok := narrowed[name]; ok {
				def = object{"anyOf": slices.DeleteFunc(list(def["anyOf"]), func(v any) bool {
					ref, _ := v.(object)["$ref"].(string)
					return !slices.Contains(keep, ref[strings.LastIndex(ref, "/")+1:])
				})}
			}
			x.defs[name] = x.schema(def)
		}
		return object{"$ref": "#/$defs/" + name}
	}
	out := object{}
	for key, value := range in {
		switch key {
		case "properties":
			props := object{}
			for name, p := range value.(object) {
				props[name] = x.schema(p)
			}
			out[key] = props
		case "items", "additionalProperties", "not":
			out[key] = x.schema(value)
		case "allOf", "anyOf", "oneOf":
			var all []any
			for _, s := range list(value) {
				all = append(all, x.schema(s))
			}
			out[key] = all
		case "type", "enum", "required", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "minProperties":
			out[key] = value
		case "format":
			if value == "date-time" { // GitHub's own URI templates are not valid ones
				out[key] = value
			}
		}
	}
	if in["nullable"] != true {
		return out
	}
	if kind, ok := out["type"].(string); ok {
		out["type"] = []any{kind, "null"}
		if enum, ok := out["enum"].([]any); ok && !slices.Contains(enum, nil) {
			out["enum"] = append(slices.Clone(enum), nil)
		}
		return out
	}
	return object{"anyOf": []any{out, object{"type": "null"}}}
}

func at(v any, keys ...string) any {
	for _, key := range keys {
		o, ok := v.(object)
		if !ok {
			return nil
		}
		v = o[key]
	}
	return v
}

func list(v any) []any {
	l, _ := v.([]any)
	return l
}
