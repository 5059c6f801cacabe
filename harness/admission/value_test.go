package admission

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// oneService is a recipe of one service with more keys, and sections below it.
func oneService(keys, sections string) string {
	text := "services:\n  app:\n    image: a:1\n"
	for line := range strings.Lines(keys) {
		text += "    " + line
	}
	return text + "\n" + sections
}

func labelled(labels ...string) string {
	text := "labels:\n"
	for _, l := range labels {
		text += "  - '" + l + "'\n"
	}
	return text
}

// The value of a refusal holds all that decides: with the entries that lift what a recipe asks for,
// the same recipe with one thing changed is refused.
func TestN3_AWaiverLiftsNothingMoreThanItWasWrittenFor(t *testing.T) {
	media := "volumes: {media: {external: true}}\n"
	bound := func(device string) string {
		return "volumes: {media: {driver_opts: {type: none, o: bind, device: " + device + "}}}\n"
	}
	const rule = "traefik.tcp.routers.${STACK_NAME}.rule=HostSNI(`*`)"
	for name, c := range map[string]struct {
		waived  string
		changed []string
	}{
		"bind mount": {
			oneService("volumes: ['/:/host:ro']", ""),
			[]string{
				oneService("volumes: ['/:/host']", ""),
				oneService("volumes: ['/:/host:rw']", ""),
				oneService("volumes: ['/:/host:ro,rshared']", ""),
				oneService("volumes: [{type: bind, source: /, target: /host, read_only: true, bind: {propagation: rshared}}]", ""),
				oneService("volumes: [{type: bind, source: /, target: /host, bind: {propagation: rshared}}]", ""),
				oneService("volumes: [{type: bind, source: /, target: '/host:ro'}]", ""),
			},
		},
		"writable bind mount": {
			oneService("volumes: ['/srv/x:/host']", ""),
			[]string{oneService("volumes: ['/srv/x:/host:rshared']", "")},
		},
		"socket": {
			oneService("volumes: ['/run/docker:/x:ro']", ""),
			[]string{oneService("volumes: ['/run/docker:/x']", "")},
		},
		"external volume": {
			oneService("volumes: ['media:/m:ro']", media),
			[]string{
				oneService("volumes: ['media:/m']", media),
				oneService("volumes: ['media:/m:ro', 'media:/n']", media),
				oneService("volumes: ['media:/m:ro']", "volumes: {media: {name: media}}\n"),
			},
		},
		"part of an external volume": {
			oneService("volumes: [{type: volume, source: media, target: /m, volume: {subpath: music}}]", media),
			[]string{oneService("volumes: ['media:/m']", media)},
		},
		"volume on a path of the host": {
			oneService("volumes: ['media:/m:ro']", bound("/srv/media")),
			[]string{oneService("volumes: ['media:/m']", bound("/srv/media"))},
		},
		"options of a volume": {
			oneService("volumes: ['media:/m']", "volumes: {media: {driver_opts: {device: /srv, o: 'bind,type=none'}}}\n"),
			[]string{oneService("volumes: ['media:/m']", "volumes: {media: {driver_opts: {device: /srv, o: bind, type: none}}}\n")},
		},
		"external network": {
			oneService("networks: [n]", "networks: {n: {external: true, name: other}}\n"),
			[]string{oneService("networks: [n]", "networks: {n: {name: other}}\n")},
		},
		"external config": {
			oneService("configs: [c]", "configs: {c: {external: true, name: other}}\n"),
			[]string{oneService("configs: [c]", "configs: {c: {file: compose.yml, name: other}}\n")},
		},
		"external secret": {
			oneService("secrets: [c]", "secrets: {c: {external: true, name: other}}\n"),
			[]string{oneService("secrets: [c]", "secrets: {c: {file: compose.yml, name: other}}\n")},
		},
		"subnet": {
			oneService("", "networks: {default: {ipam: {config: [{subnet: 10.7.0.0/24}]}}}\n"),
			[]string{
				oneService("", "networks: {default: {ipam: {config: [{subnet: 172.18.0.0/16}]}}}\n"),
				oneService("", "networks: {default: {ipam: {driver: other, config: [{subnet: 10.7.0.0/24}]}}}\n"),
			},
		},
		"option of a network": {
			oneService("", "networks: {n: {driver_opts: {parent: eth1}}}\n"),
			[]string{oneService("", "networks: {n: {driver_opts: {parent: eth0}}}\n")},
		},
		"log": {
			oneService("logging: {driver: syslog, options: {syslog-address: 'udp://logs.example.org:514'}}", ""),
			[]string{
				oneService("logging: {driver: syslog, options: {syslog-address: 'unix:///run/x.sock'}}", ""),
				oneService("logging: {driver: syslog, options: {syslog-address: 'udp://logs.example.org:514', syslog-tls-ca-cert: /x}}", ""),
			},
		},
		"log without an address": {
			oneService("logging: {driver: syslog}", ""),
			[]string{oneService("logging: {driver: syslog, options: {syslog-address: 'unix:///run/x.sock'}}", "")},
		},
		"option that is not admitted": {
			oneService(labelled("traefik.http.services.${STACK_NAME}.loadbalancer.serverstransport=x"), ""),
			[]string{oneService(labelled("traefik.http.services.${STACK_NAME}.loadbalancer.serverstransport=insecure@file"), "")},
		},
		"value that is not admitted": {
			oneService(labelled("traefik.http.middlewares.${STACK_NAME}.buffering.memrequestbodybytes=3000000"), ""),
			[]string{oneService(labelled("traefik.http.middlewares.${STACK_NAME}.buffering.memrequestbodybytes=-1"), "")},
		},
		"users": {
			oneService(labelled("traefik.http.middlewares.${STACK_NAME}-m.basicauth.users=a:$$2y$$09$$abcdefghijklmnopqrstuv"), ""),
			[]string{oneService(labelled("traefik.http.middlewares.${STACK_NAME}-m.basicauth.users=a:$$2y$$31$$abcdefghijklmnopqrstuv"), "")},
		},
		"plugin": {
			oneService(labelled("traefik.http.middlewares.${STACK_NAME}.plugin.p.to=x"), ""),
			[]string{oneService(labelled("traefik.http.middlewares.${STACK_NAME}.plugin.p.to=y"), "")},
		},
		"TLS of an authentication server": {
			oneService(labelled("traefik.http.middlewares.${STACK_NAME}.forwardauth.tls.insecureskipverify=true"), ""),
			[]string{oneService(labelled("traefik.http.middlewares.${STACK_NAME}.forwardauth.tls.cert=true"), "")},
		},
		"middleware of another stack": {
			oneService(labelled("traefik.http.middlewares.${STACK_NAME}.chain.middlewares=other@docker"), ""),
			[]string{oneService(labelled("traefik.http.middlewares.${STACK_NAME}.errors.service=other@docker"), "")},
		},
		"entrypoint of every host": {
			oneService(labelled(rule, "traefik.tcp.routers.${STACK_NAME}.entrypoints=voice"), ""),
			[]string{
				oneService(labelled(rule, "traefik.tcp.routers.${STACK_NAME}.entrypoints=web-secure"), ""),
				oneService(labelled(rule, "traefik.tcp.routers.${STACK_NAME}.entrypoints=voice", "traefik.tcp.routers.${STACK_NAME}.priority=1000000"), ""),
			},
		},
		"entrypoint for UDP": {
			oneService(labelled("traefik.udp.routers.${STACK_NAME}.entrypoints=voice"), ""),
			[]string{oneService(labelled("traefik.udp.routers.${STACK_NAME}.entrypoints=dns"), "")},
		},
		"name of another stack": {
			oneService(labelled("traefik.http.middlewares.other.compress=true"), ""),
			[]string{oneService(labelled("traefik.tcp.middlewares.other.inflightconn.amount=1"), "")},
		},
		"limit": {
			oneService("ulimits: {nofile: 2097152}", ""),
			[]string{oneService("ulimits: {nofile: {soft: 2097152, hard: -1}}", "")},
		},
		"interval": {
			oneService("healthcheck: {test: x, start_interval: 100ms}", ""),
			[]string{oneService("healthcheck: {test: x, interval: 100ms}", "")},
		},
		"alias": {
			oneService("networks: {a: {aliases: [mail]}, b: }", "networks: {a: {external: true, name: a}, b: {external: true, name: b}}\n"),
			[]string{oneService("networks: {b: {aliases: [mail]}, a: }", "networks: {a: {external: true, name: a}, b: {external: true, name: b}}\n")},
		},
		"host name": {
			oneService("hostname: mail\nnetworks: [a]", "networks: {a: {external: true, name: a}, b: {external: true, name: b}}\n"),
			[]string{oneService("hostname: mail\nnetworks: [b]", "networks: {a: {external: true, name: a}, b: {external: true, name: b}}\n")},
		},
		"folder of the processes": {
			oneService("working_dir: /proc/self/fd/7", ""),
			[]string{oneService("volumes: ['data:/proc/self/fd/7']", "volumes: {data: }\n")},
		},
		"empty folder of a system": {
			oneService("volumes: [{type: tmpfs, target: /sys/x}]", ""),
			[]string{oneService("volumes: ['data:/sys/x']", "volumes: {data: }\n")},
		},
		"namespace of another kind": {
			oneService("ipc: host", ""),
			[]string{oneService("uts: host", "")},
		},
		"devices of a number": {
			oneService("deploy: {resources: {reservations: {generic_resources: [{discrete_resource_spec: {kind: gpu, value: 1}}]}}}", ""),
			[]string{oneService("deploy: {resources: {reservations: {generic_resources: [{discrete_resource_spec: {kind: gpu, value: 8}}]}}}", "")},
		},
		"driver of a secret": {
			oneService("", "secrets: {c: {driver: vault, driver_opts: {path: a}}}\n"),
			[]string{
				oneService("", "secrets: {c: {driver: vault, driver_opts: {path: b}}}\n"),
				oneService("", "secrets: {c: {file: compose.yml, template_driver: vault}}\n"),
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			admit := func(compose string, waivers []ccci.Waiver) error {
				p := testPolicy()
				p.Waivers = waivers
				_, err := admitDir(tree(t, map[string]string{"compose.yml": "version: '3.13'\n" + compose}), p)
				return err
			}
			err := admit(c.waived, nil)
			if ccci.CodeOf(err) != ccci.CodeRefused {
				t.Fatalf("without a waiver: %v", err)
			}
			waivers := entries(t, err.Error())
			if len(waivers) == 0 {
				for _, r := range refusalsOf(err) {
					waivers = append(waivers, ccci.Waiver{Rule: r.Rule, Service: "*", Value: r.Value, Reason: "r", Owner: "o", Expires: "2026-12-31"})
				}
			}
			if err := admit(c.waived, waivers); err != nil && ccci.CodeOf(err) == ccci.CodeRefused {
				t.Fatalf("with the entries: %v", err)
			}
			for _, changed := range c.changed {
				if err := admit(changed, waivers); ccci.CodeOf(err) != ccci.CodeRefused || len(refusalsOf(err)) == 0 {
					t.Errorf("with %v: %v\n%s", waivers, err, changed)
				}
			}
		})
	}
}

// What was written before values held all that decides lifts nothing, or only what cannot be more.
func TestN3_OlderWaiversLiftNothing(t *testing.T) {
	for compose, w := range map[string][2]string{
		oneService("volumes: ['/:/host']", ""):                                                               {"bind-mount", "/:/host"},
		oneService("volumes: ['/:/host:ro']", ""):                                                            {"bind-mount", "/:/host"},
		oneService("volumes: ['media:/m']", "volumes: {media: {external: true}}"):                            {"foreign-volume", "media"},
		oneService("volumes: ['media:/m']", "volumes: {media: {name: media}}"):                               {"foreign-volume", "media"},
		oneService("", "networks: {default: {ipam: {config: [{subnet: 172.18.0.0/16}]}}}"):                   {"network-driver", "default.ipam"},
		oneService("logging: {driver: syslog, options: {syslog-address: 'unix:///x'}}", ""):                  {"logging", "syslog-address"},
		oneService(labelled("traefik.http.services.${STACK_NAME}.loadbalancer.serverstransport=x@file"), ""): {"traefik-label", "traefik.http.services.${STACK_NAME}.loadbalancer.serverstransport"},
	} {
		p := testPolicy()
		p.Waivers = []ccci.Waiver{waiver(func(x *ccci.Waiver) { x.Rule, x.Service, x.Value = w[0], "*", w[1] })}
		if _, err := admitDir(tree(t, map[string]string{"compose.yml": compose}), p); ccci.CodeOf(err) != ccci.CodeRefused {
			t.Errorf("%v: %v\n%s", w, err, compose)
		}
	}
}

// A waiver for writing lifts the same for reading, of the same thing and in the same way.
func TestN3_AWaiverForWritingLiftsReading(t *testing.T) {
	for _, c := range []struct {
		rule, waived, value string
		want                bool
	}{
		{"bind-mount", "/:/host:rw", "/:/host:ro", true},
		{"bind-mount", "/:/host:rw,rshared", "/:/host:ro,rshared", true},
		{"bind-mount", "/:/host:ro", "/:/host:rw", false},
		{"bind-mount", "/:/host:rw", "/:/host:ro,rshared", false},
		{"bind-mount", "/:/host:rw,rshared", "/:/host:ro", false},
		{"bind-mount", "/:/hos:rw", "/:/host:ro", false},
		{"bind-mount", "/:/host", "/:/host:ro", false},
		{"bind-mount", "/:/host:rw", "/:/host:ros", false},
		{"foreign-volume", "media:rw", "media:ro", true},
		{"volume-driver", "o=bind:rw", "o=bind:ro", true},
		{"image", "registry.local/app:rw", "registry.local/app:ro", false},
	} {
		if got := covers(c.rule, c.waived, c.value); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
	if a, b := joined("/a:/b", "/c"), joined("/a", "/b:/c"); a == b {
		t.Errorf("two mounts have the value %s", a)
	}
}

// A bind mount of a folder of the recipe is of that folder: the daemon follows links.
func TestN3_ABindMountLeadsThroughNoLink(t *testing.T) {
	for link, path := range map[string]string{"data": "data", "data/sub": "data/sub/x"} {
		dir := tree(t, map[string]string{"compose.yml": oneService("volumes: ['./"+path+":/data']", ""), "data/sub2/x": ""})
		p := testPolicy()
		p.Waivers = []ccci.Waiver{waiver(func(x *ccci.Waiver) { x.Rule, x.Service, x.Value = "bind-mount", "app", path+":/data:rw" })}
		if _, err := admitDir(dir, p); err != nil {
			t.Fatal(err)
		}
		if link == "data" {
			if err := os.RemoveAll(filepath.Join(dir, "data")); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Symlink("/", filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
		if _, err := admitDir(dir, p); err == nil || !strings.Contains(err.Error(), "(rule symlink)") {
			t.Errorf("%s: %v", link, err)
		}
	}
}

// The value of a label that holds passwords is not shown, and the same in each run.
func TestN3_AWaiverShowsNoPassword(t *testing.T) {
	compose := oneService(labelled("traefik.http.middlewares.${STACK_NAME}.ratelimit.redis.password=hunter2-${STACK_NAME}"), "")
	dir := tree(t, map[string]string{"compose.yml": compose})
	_, err := admitDir(dir, testPolicy())
	if err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "redis.password=sha256:") {
		t.Fatal(err)
	}
	p, r := testPolicy(), testRender()
	p.Waivers = entries(t, err.Error())
	r.Domain = "demo-ffffff.ci.example.org"
	p.Domains = []string{r.Domain}
	if _, err := admitWith(dir, r, p); err != nil {
		t.Error(err)
	}
}

func refusalsOf(err error) []Refusal {
	var refused *RefusedError
	if errors.As(err, &refused) {
		return refused.Refusals
	}
	return nil
}
