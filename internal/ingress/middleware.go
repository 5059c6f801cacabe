package ingress

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
)

// wrap puts something in front of a handler.
type wrap func(http.Handler) http.Handler

// fileMiddlewares are those that Co-op Cloud's Traefik defines in its own file,
// and that recipes may therefore name.
var fileMiddlewares = map[string]Middleware{
	"security@file": {Name: "security@file", Kind: "headers", Options: map[string]string{
		"framedeny": "true", "browserxssfilter": "true", "contenttypenosniff": "true",
		"stsincludesubdomains": "true", "stspreload": "true", "stsseconds": "31536000",
	}},
}

// guards check who is asking. They are refused, never passed over.
var guards = []string{"basicauth", "digestauth", "forwardauth", "ipallowlist", "ipwhitelist", "plugin"}

// passedOver neither change what a request means nor who may ask.
var passedOver = []string{"buffering", "circuitbreaker", "compress", "contenttype", "inflightreq", "passtlsclientcert", "ratelimit", "retry"}

// remark says what a middleware does not do here, or "".
func remark(m Middleware) string {
	switch {
	case slices.Contains(guards, m.Kind):
		return m.Kind + " is not supported by the embedded ingress; requests get 501"
	case slices.Contains(passedOver, m.Kind):
		return m.Kind + " has no effect in the embedded ingress"
	}
	return ""
}

// newMiddleware makes a middleware, or says why Traefik would drop it.
func newMiddleware(m Middleware) (wrap, error) {
	o := m.Options
	switch m.Kind {
	case "stripprefix":
		return stripPrefix(list(o["prefixes"])), nil
	case "stripprefixregex":
		return stripPrefixRegex(list(o["regex"]))
	case "addprefix":
		return rewritePath(func(p string) string { return path.Join("/", o["prefix"]) + p }), nil
	case "replacepath":
		return rewritePath(func(string) string { return o["path"] }), nil
	case "replacepathregex":
		re, err := regexp.Compile(o["regex"])
		if err != nil {
			return nil, fmt.Errorf("%q is not a regular expression", o["regex"])
		}
		return rewritePath(func(p string) string { return re.ReplaceAllString(p, o["replacement"]) }), nil
	case "redirectregex":
		return redirectRegex(o["regex"], o["replacement"], isTrue(o["permanent"]))
	case "redirectscheme":
		return redirectScheme(o["scheme"], o["port"], isTrue(o["permanent"])), nil
	case "headers":
		return headers(o), nil
	}
	if slices.Contains(guards, m.Kind) {
		return func(http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				http.Error(w, "middleware "+m.Kind+" is not supported by the embedded ingress", http.StatusNotImplemented)
			})
		}, nil
	}
	if slices.Contains(passedOver, m.Kind) {
		return func(next http.Handler) http.Handler { return next }, nil
	}
	return nil, fmt.Errorf("kind %q does not exist", m.Kind)
}

// withPath passes a copy of the request with another (decoded) path on.
func withPath(w http.ResponseWriter, r *http.Request, next http.Handler, decoded, raw string) {
	clone := r.Clone(r.Context())
	clone.URL.Path, clone.URL.RawPath = decoded, raw
	next.ServeHTTP(w, clone)
}

func rewritePath(f func(string) string) wrap {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			raw := f(r.URL.EscapedPath())
			decoded, err := url.PathUnescape(raw)
			if err != nil {
				http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
				return
			}
			withPath(w, r, next, decoded, raw)
		})
	}
}

func stripPrefix(prefixes []string) wrap {
	return strip(func(p string) string {
		for _, prefix := range prefixes {
			if strings.HasPrefix(p, prefix) {
				return prefix
			}
		}
		return ""
	})
}

func stripPrefixRegex(expressions []string) (wrap, error) {
	var all []*regexp.Regexp
	for _, text := range expressions {
		re, err := regexp.Compile(expression(text, `[^/]+`))
		if !template.MatchString(text) {
			re, err = regexp.Compile(text)
		}
		if err != nil {
			return nil, fmt.Errorf("%q is not a regular expression", text)
		}
		all = append(all, re)
	}
	return strip(func(p string) string {
		for _, re := range all {
			if at := re.FindStringIndex(p); at != nil && at[0] == 0 {
				return p[:at[1]]
			}
		}
		return ""
	}), nil
}

// strip takes the prefix that find names off the path and tells the backend.
func strip(find func(path string) string) wrap {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			prefix := find(r.URL.Path)
			if prefix == "" {
				next.ServeHTTP(w, r)
				return
			}
			slash := func(p string) string { return "/" + strings.TrimPrefix(p, "/") }
			raw := ""
			if r.URL.RawPath != "" {
				raw = slash(strings.TrimPrefix(r.URL.RawPath, (&url.URL{Path: prefix}).EscapedPath()))
			}
			clone := r.Clone(r.Context())
			clone.Header.Add("X-Forwarded-Prefix", prefix)
			withPath(w, clone, next, slash(strings.TrimPrefix(r.URL.Path, prefix)), raw)
		})
	}
}

// fullURL is the address as the client wrote it.
func fullURL(r *http.Request) string {
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	return scheme + "://" + r.Host + r.URL.RequestURI()
}

func redirect(w http.ResponseWriter, r *http.Request, location string, permanent bool) {
	code := http.StatusFound
	switch {
	case permanent && r.Method == http.MethodGet:
		code = http.StatusMovedPermanently
	case permanent:
		code = http.StatusPermanentRedirect
	case r.Method != http.MethodGet:
		code = http.StatusTemporaryRedirect
	}
	w.Header().Set("Location", location)
	w.WriteHeader(code)
	_, _ = w.Write([]byte(http.StatusText(code)))
}

func redirectRegex(expr, replacement string, permanent bool) (wrap, error) {
	re, err := regexp.Compile(expr)
	if err != nil || expr == "" {
		return nil, fmt.Errorf("%q is not a regular expression", expr)
	}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			old := fullURL(r)
			location := re.ReplaceAllString(old, replacement)
			if !re.MatchString(old) || location == old {
				next.ServeHTTP(w, r)
				return
			}
			if _, err := url.Parse(location); err != nil {
				http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
				return
			}
			redirect(w, r, location, permanent)
		})
	}, nil
}

func redirectScheme(scheme, port string, permanent bool) wrap {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			old, err := url.Parse(fullURL(r))
			if err != nil || old.Scheme == scheme {
				next.ServeHTTP(w, r)
				return
			}
			old.Scheme, old.Host = scheme, old.Hostname()
			if port != "" && !(port == "443" && scheme == "https") && !(port == "80" && scheme == "http") {
				old.Host = net.JoinHostPort(old.Host, port)
			}
			redirect(w, r, old.String(), permanent)
		})
	}
}

// securityHeaders are the on/off and text options of the headers middleware.
func securityHeaders(o map[string]string) map[string]string {
	set := map[string]string{}
	if isTrue(o["framedeny"]) {
		set["X-Frame-Options"] = "DENY"
	}
	if isTrue(o["contenttypenosniff"]) {
		set["X-Content-Type-Options"] = "nosniff"
	}
	if isTrue(o["browserxssfilter"]) {
		set["X-XSS-Protection"] = "1; mode=block"
	}
	if seconds := o["stsseconds"]; seconds != "" && seconds != "0" {
		value := "max-age=" + seconds
		if isTrue(o["stsincludesubdomains"]) {
			value += "; includeSubDomains"
		}
		if isTrue(o["stspreload"]) {
			value += "; preload"
		}
		set["Strict-Transport-Security"] = value
	}
	for option, header := range map[string]string{
		"customframeoptionsvalue": "X-Frame-Options", "contentsecuritypolicy": "Content-Security-Policy",
		"referrerpolicy": "Referrer-Policy", "permissionspolicy": "Permissions-Policy",
		"custombrowserxssvalue": "X-XSS-Protection",
	} {
		if o[option] != "" {
			set[header] = o[option]
		}
	}
	return set
}

// headers sets and (empty value) removes headers, and sends clients to sslHost.
func headers(o map[string]string) wrap {
	request, response := map[string]string{}, securityHeaders(o)
	for key, value := range o {
		if name, ok := strings.CutPrefix(key, "customrequestheaders."); ok {
			request[name] = value
		}
		if name, ok := strings.CutPrefix(key, "customresponseheaders."); ok {
			response[name] = value
		}
	}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if host := o["sslhost"]; host != "" && isTrue(o["sslforcehost"]) && !strings.EqualFold(hostname(r), host) {
				redirect(w, r, "https://"+withPort(host, r)+r.URL.RequestURI(), !isTrue(o["ssltemporaryredirect"]))
				return
			}
			clone := r.Clone(r.Context())
			for name, value := range request {
				if strings.EqualFold(name, "Host") && value != "" {
					clone.Host = value
					continue
				}
				if value == "" {
					clone.Header.Del(name)
					continue
				}
				clone.Header.Set(name, value)
			}
			next.ServeHTTP(&headerWriter{ResponseWriter: w, set: response}, clone)
		})
	}
}

// withPort gives a host the port that the client named, if any.
func withPort(host string, r *http.Request) string {
	if _, port, err := net.SplitHostPort(r.Host); err == nil {
		return net.JoinHostPort(host, port)
	}
	return host
}

// headerWriter sets headers at the moment when the backend's are there.
type headerWriter struct {
	http.ResponseWriter
	set  map[string]string
	done bool
}

func (w *headerWriter) WriteHeader(code int) {
	if !w.done {
		w.done = code >= 200 || code == http.StatusSwitchingProtocols
		for name, value := range w.set {
			if value == "" {
				w.Header().Del(name)
				continue
			}
			w.Header().Set(name, value)
		}
	}
	w.ResponseWriter.WriteHeader(code)
}

func (w *headerWriter) Write(b []byte) (int, error) {
	if !w.done {
		w.WriteHeader(http.StatusOK)
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap lets flushing and upgrades reach the connection.
func (w *headerWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
