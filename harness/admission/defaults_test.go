package admission

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	process "github.com/recipe-maintainers/cc-ci/internal/testserver/child"
	"github.com/recipe-maintainers/cc-ci/internal/testserver/peers"
)

// proxyDefaults are the values that Traefik gives to options that a label leaves out. A check of
// a value does not see them, so each is judged here. One that lets an app reach, take or hold what
// is not its run's also belongs into unsafeDefaults of internal/deploy/swarm.
var proxyDefaults = map[string]string{
	"http.middlewares.circuitbreaker.checkperiod":                 "100ms",
	"http.middlewares.circuitbreaker.fallbackduration":            "10s",
	"http.middlewares.circuitbreaker.recoveryduration":            "10s",
	"http.middlewares.circuitbreaker.responsecode":                "503",
	"http.middlewares.compress.encodings":                         "[gzip br zstd]",
	"http.middlewares.forwardauth.maxbodysize":                    "-1", // unsafe
	"http.middlewares.ratelimit.burst":                            "1",
	"http.middlewares.ratelimit.period":                           "1s",
	"http.routers.observability.accesslogs":                       "true",
	"http.routers.observability.metrics":                          "true",
	"http.routers.observability.traceverbosity":                   "minimal",
	"http.services.loadbalancer.healthcheck.followredirects":      "true", // unsafe
	"http.services.loadbalancer.healthcheck.interval":             "30s",
	"http.services.loadbalancer.healthcheck.mode":                 "http",
	"http.services.loadbalancer.healthcheck.timeout":              "5s",
	"http.services.loadbalancer.passhostheader":                   "true",
	"http.services.loadbalancer.passivehealthcheck.failurewindow": "10s",
	"http.services.loadbalancer.sticky.cookie.path":               "/",
	"tcp.routers.tls.passthrough":                                 "false",
	"http.services.loadbalancer.strategy":                         "wrr",
}

// groupOptions sets one option of each group of the list; lists are in brackets.
var groupOptions = map[string][]string{
	"http.routers": {"tls.options=default", "observability.tracing=true"},
	"http.services": {
		"loadbalancer.responseforwarding.flushinterval=1s", "loadbalancer.healthcheck.path=/",
		"loadbalancer.healthcheck.headers.x=y", "loadbalancer.passivehealthcheck.maxfailedattempts=2", "loadbalancer.sticky.cookie.name=a",
	},
	"tcp.routers":     {"tls.options=default"},
	"tcp.services":    {"loadbalancer.proxyprotocol.version=1"},
	"tcp.middlewares": {"ipallowlist.sourcerange=[1.1.1.1]", "ipwhitelist.sourcerange=[1.1.1.1]", "inflightconn.amount=1"},
	"http.middlewares": {
		"addprefix.prefix=/a", "basicauth.users=[a:b]", "digestauth.users=[a:b:c]", "buffering.maxrequestbodybytes=1", "chain.middlewares=[a]",
		"circuitbreaker.expression=NetworkErrorRatio() > 0.5", "compress.minresponsebodybytes=1", "contenttype.autodetect=true",
		"errors.query=/", "errors.statusrewrites.404=200", "forwardauth.address=http://a", "grpcweb.alloworigins=[a]", "ipallowlist.sourcerange=[1.1.1.1]",
		"ipallowlist.ipstrategy.depth=1", "ipwhitelist.sourcerange=[1.1.1.1]", "ipwhitelist.ipstrategy.depth=1", "inflightreq.amount=1", "inflightreq.sourcecriterion.ipstrategy.depth=1",
		"ratelimit.average=1", "ratelimit.sourcecriterion.ipstrategy.depth=1", "passtlsclientcert.info.subject.country=true", "passtlsclientcert.info.issuer.country=true", "redirectregex.regex=a", "redirectscheme.scheme=https", "replacepath.path=/a", "replacepathregex.regex=a",
		"retry.attempts=1", "stripprefix.prefixes=[/a]", "stripprefixregex.regex=[a]", "headers.framedeny=true", "headers.sslproxyheaders.x=y",
		"headers.customrequestheaders.x=y", "headers.customresponseheaders.x=y",
	},
}

// Traefik itself says which values options have that are left out.
func TestN3_DefaultsOfTheProxyAreJudged(t *testing.T) {
	config, groups, given := map[string]map[string]any{}, map[string]bool{}, map[string]bool{}
	for kind, options := range groupOptions {
		protocol, objects, _ := strings.Cut(kind, ".")
		all := map[string]any{}
		for i, option := range options {
			path, value, _ := strings.Cut(option, "=")
			given[kind+"."+path] = true
			for at, c := range path {
				groups[kind+"."+path[:at]] = groups[kind+"."+path[:at]] || c == '.'
			}
			o := nested(strings.Split(path, "."), value)
			switch kind {
			case "http.routers":
				o["rule"], o["service"] = "Host(`x`)", "o0"
			case "tcp.routers":
				o["rule"], o["service"] = "HostSNI(`x`)", "o0"
			case "http.services":
				o["loadbalancer"].(map[string]any)["servers"] = []any{map[string]any{"url": "http://127.0.0.1:1"}}
			case "tcp.services":
				o["loadbalancer"].(map[string]any)["servers"] = []any{map[string]any{"address": "127.0.0.1:1"}}
			}
			all[fmt.Sprintf("o%d", i)] = o
		}
		if config[protocol] == nil {
			config[protocol] = map[string]any{}
		}
		config[protocol][objects] = all
	}
	for kind, options := range optionTable {
		for option := range options {
			at := strings.LastIndexByte(option, '.')
			if at > 0 && !strings.Contains(option, "[n]") && !groups[kind+"."+option[:at]] && option[:at] != "loadbalancer.server" {
				t.Errorf("%s.%s: no option of its group is set here", kind, option)
			}
		}
	}

	got := map[string]string{}
	for object, fields := range runningConfig(t, config) {
		kind := map[string]string{
			"routers": "http.routers", "services": "http.services", "middlewares": "http.middlewares",
			"tcpRouters": "tcp.routers", "tcpServices": "tcp.services", "tcpMiddlewares": "tcp.middlewares",
		}[object]
		flatten(got, kind, fields)
	}
	maps.DeleteFunc(got, func(option, _ string) bool { return given[option] })
	if diff := cmp.Diff(proxyDefaults, got); diff != "" {
		t.Errorf("judge each default that is new; -want +got:\n%s", diff)
	}
}

// runningConfig is what Traefik makes of a dynamic configuration, by kind of object.
func runningConfig(t *testing.T, config any) map[string][]map[string]any {
	t.Helper()
	text, err := json.Marshal(config) // which is YAML
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "dynamic.yml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	port, err := process.Port()
	if err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", port)
	cmd := exec.Command(peers.Binary(t, peers.Traefik), "--entrypoints.traefik.address="+address, "--entrypoints.web.address=127.0.0.1:0", "--api.insecure", "--providers.file.filename="+file)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	ended, err := process.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	stop := func() { _ = cmd.Process.Kill(); <-ended }
	defer stop()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		all := map[string]map[string]map[string]any{}
		res, err := http.Get("http://" + address + "/api/rawdata")
		if err != nil {
			continue
		}
		err = json.NewDecoder(res.Body).Decode(&all)
		res.Body.Close()
		if err != nil || all["middlewares"]["o0@file"] == nil {
			continue
		}
		out := map[string][]map[string]any{}
		for kind, objects := range all {
			for name, object := range objects {
				if strings.HasSuffix(name, "@file") {
					out[kind] = append(out[kind], object)
				}
			}
		}
		return out
	}
	stop()
	t.Fatalf("Traefik does not answer within 30 s:\n%s", log.String())
	return nil
}

// flatten writes each value under its options' names in lower case. Traefik adds state of its own.
func flatten(out map[string]string, name string, value any) {
	switch v := value.(type) {
	case []map[string]any:
		for _, one := range v {
			for _, other := range []string{"rule", "service", "entryPoints", "priority", "status", "using", "usedBy", "serverStatus", "error"} {
				delete(one, other)
			}
			flatten(out, name, one)
		}
	case map[string]any:
		for key, inner := range v {
			if key != "servers" { // which a file writes otherwise than labels
				flatten(out, name+"."+strings.ToLower(key), inner)
			}
		}
	default:
		out[name] = fmt.Sprint(v)
	}
}

func nested(path []string, value string) map[string]any {
	if len(path) > 1 {
		return map[string]any{path[0]: nested(path[1:], value)}
	}
	if list, ok := strings.CutPrefix(value, "["); ok {
		return map[string]any{path[0]: []string{strings.TrimSuffix(list, "]")}}
	}
	return map[string]any{path[0]: value}
}
