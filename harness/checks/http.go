package checks

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// maxBody is how much of a response is read; what is behind it is not looked at.
const maxBody = 4 << 20

func (r *Runner) http(ctx context.Context, step ccci.HTTPStep) error {
	req, err := r.request(ctx, step)
	if err != nil {
		return err
	}
	resp, err := r.Target.HTTP.Do(req)
	if err != nil {
		return failf(seen{}, "%s %s: %v", req.Method, req.URL, unwrapURL(err))
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err == nil {
		err = ctx.Err() // the end of a body that came with the end of its time may be no end
	}
	if err != nil {
		return failf(bodyOf(body), "%s %s: reading the response: %v", req.Method, req.URL, err)
	}
	if _, to := r.redirection(resp); to != "" && !judges(step.Expect, "Location") {
		return failf(bodyOf(body), "%s %s redirects to %s, which is no address of this run", req.Method, req.URL, to)
	}
	if err := r.expect(req, resp, body, step.Expect); err != nil {
		return err
	}
	for name, path := range step.Save {
		value, err := jsonAt(body, path)
		if err != nil {
			return failf(bodyOf(body), "%s %s: %v", req.Method, req.URL, err)
		}
		if value == "" {
			return failf(bodyOf(body), "%s %s: %s is empty, and every text holds an empty one", req.Method, req.URL, path)
		}
		r.save(name, value)
	}
	return nil
}

func (r *Runner) request(ctx context.Context, step ccci.HTTPStep) (*http.Request, error) {
	host, err := r.host(step.Domain)
	if err != nil {
		return nil, err
	}
	path, err := r.Vars.Expand(or(step.Path, "/"))
	if err != nil {
		return nil, err
	}
	body, contentType, err := r.body(step)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, or(step.Method, http.MethodGet), "https://"+host+path, bytes.NewReader(body))
	if err != nil {
		return nil, ccci.Errorf(ccci.CodeInvalid, "making the request for %q: %w", path, err)
	}
	// A path may hold what the app answered: it must not make another host of this one.
	if req.URL.Host != host || req.URL.User != nil {
		return nil, failf(seen{}, "the path %q leads away from https://%s", path, host)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	headers, err := r.Vars.ExpandMap(step.Headers)
	if err != nil {
		return nil, err
	}
	for name, value := range headers {
		req.Header.Set(name, value)
	}
	if step.Basic != "" {
		basic, err := r.Vars.Expand(step.Basic)
		if err != nil {
			return nil, err
		}
		user, password, _ := strings.Cut(basic, ":")
		req.SetBasicAuth(user, password)
	}
	return req, nil
}

// judges reports whether an enrolment says what a header must hold.
func judges(want ccci.HTTPExpect, header string) bool {
	for name := range want.Headers {
		if strings.EqualFold(name, header) {
			return true
		}
	}
	return false
}

func (r *Runner) body(step ccci.HTTPStep) (body []byte, contentType string, err error) {
	switch {
	case step.JSON != nil:
		value, err := r.expandTree(step.JSON)
		if err != nil {
			return nil, "", err
		}
		body, err := json.Marshal(value)
		if err != nil {
			return nil, "", ccci.Errorf(ccci.CodeInvalid, "writing the request body as JSON: %w", err)
		}
		return body, "application/json", nil
	case step.Form != nil:
		fields, err := r.Vars.ExpandMap(step.Form)
		if err != nil {
			return nil, "", err
		}
		form := url.Values{}
		for name, value := range fields {
			form.Set(name, value)
		}
		return []byte(form.Encode()), "application/x-www-form-urlencoded", nil
	}
	text, err := r.Vars.Expand(step.Body)
	return []byte(text), "", err
}

// expandTree fills in the templates of every string in a YAML value.
func (r *Runner) expandTree(value any) (any, error) {
	switch v := value.(type) {
	case string:
		return r.Vars.Expand(v)
	case []any:
		out := make([]any, len(v))
		for i, item := range v {
			var err error
			if out[i], err = r.expandTree(item); err != nil {
				return nil, err
			}
		}
		return out, nil
	case map[string]any:
		out := make(map[string]any, len(v))
		for key, item := range v {
			var err error
			if out[key], err = r.expandTree(item); err != nil {
				return nil, err
			}
		}
		return out, nil
	}
	return value, nil
}

func (r *Runner) expect(req *http.Request, resp *http.Response, body []byte, want ccci.HTTPExpect) error {
	where := req.Method + " " + req.URL.String()
	statuses := want.Status
	if len(statuses) == 0 {
		statuses = []int{http.StatusOK}
	}
	if !slices.Contains(statuses, resp.StatusCode) {
		return failf(bodyOf(body), "%s answered %d, expected %s", where, resp.StatusCode, codes(statuses))
	}
	for _, text := range want.Contains {
		text, err := r.Vars.Expand(text)
		if err != nil {
			return err
		}
		if !bytes.Contains(body, []byte(text)) {
			return failf(bodyOf(body), "%s: the answer does not hold %q", where, text)
		}
	}
	for _, text := range want.Lacks {
		text, err := r.Vars.Expand(text)
		if err != nil {
			return err
		}
		if bytes.Contains(body, []byte(text)) {
			return failf(bodyOf(body), "%s: the answer holds %q", where, text)
		}
	}
	for path, text := range want.JSON {
		text, err := r.Vars.Expand(text)
		if err != nil {
			return err
		}
		got, err := jsonAt(body, path)
		if err != nil {
			return failf(bodyOf(body), "%s: %v", where, err)
		}
		if got != text {
			return failf(bodyOf(body), "%s: %s is %q, expected %q", where, path, got, text)
		}
	}
	for name, text := range want.Headers {
		text, err := r.Vars.Expand(text)
		if err != nil {
			return err
		}
		if got := resp.Header.Get(name); !strings.Contains(got, text) {
			return failf(seen{}, "%s: header %s is %q, expected it to hold %q", where, name, got, text)
		}
	}
	return nil
}

// jsonAt reads the value at a dotted path ("items.0.id") as text.
func jsonAt(body []byte, path string) (string, error) {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	var value any
	if err := dec.Decode(&value); err != nil {
		return "", fmt.Errorf("the answer is not JSON: %w", err)
	}
	for _, key := range strings.Split(path, ".") {
		switch v := value.(type) {
		case map[string]any:
			item, ok := v[key]
			if !ok {
				return "", fmt.Errorf("the answer has no %q (at %q)", path, key)
			}
			value = item
		case []any:
			i, err := strconv.Atoi(key)
			if err != nil || i < 0 || i >= len(v) {
				return "", fmt.Errorf("the answer has no %q (%d items at %q)", path, len(v), key)
			}
			value = v[i]
		default:
			return "", fmt.Errorf("the answer has no %q (at %q)", path, key)
		}
	}
	if text, ok := value.(string); ok {
		return text, nil
	}
	text, err := json.Marshal(value)
	return string(text), err
}

func codes(list []int) string {
	var out []string
	for _, code := range list {
		out = append(out, strconv.Itoa(code))
	}
	return strings.Join(out, " or ")
}

// unwrapURL takes the repetition of method and address off a client error.
func unwrapURL(err error) error {
	if u, ok := err.(*url.Error); ok {
		return u.Err
	}
	return err
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
