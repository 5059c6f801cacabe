package config

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func TestReconcileSettings(t *testing.T) {
	c, err := Parse("x.yml", []byte("reconcile: {images: {cc_ci: 'cc-ci:1'}, proxy: {entrypoints: ['gitea-ssh:2222', 'mumble-udp:64738/udp']}}"))
	if err != nil {
		t.Fatal(err)
	}
	if r := c.Reconcile; r.Subnet != "10.10.0.0/16" || r.Proxy.HTTPS != 443 || r.Proxy.Certificates != "/var/lib/ci-certs/live" || r.Images.CCCI != "cc-ci:1" { // A25, U22
		t.Errorf("got %+v", r)
	}
	if e, err := ParseEntrypoint("mumble-udp:64738/udp"); err != nil || e != (Entrypoint{"mumble-udp", 64738, true}) {
		t.Errorf("%+v, %v", e, err)
	}
	for text, want := range map[string]string{
		"subnet: 10.10.0.0/24":                                   `reconcile.subnet: "10.10.0.0/24" is not such a range`,
		"subnet: 10.10.1.0/16":                                   "is not such a range",
		"socket: docker.sock":                                    "does not begin at /",
		"proxy: {http: 0}":                                       "0 is not between 1 and 65535",
		"proxy: {https: 80}":                                     "port 80 is that of reconcile.proxy.http too",
		"proxy: {entrypoints: ['gitea-ssh']}":                    `"gitea-ssh" is not an entrypoint`,
		"proxy: {entrypoints: ['a:70000']}":                      "70000 is no port",
		"proxy: {entrypoints: ['web:81']}":                       "there is an entrypoint web already",
		"firewall: {allow: ['10.1.2.3']}":                        `reconcile.firewall.allow[0]: "10.1.2.3" is no address with a port`,
		"firewall: {allow: ['10.1.2.3:443', '10.1.2.3/8:443']}":  `reconcile.firewall.allow[1]: "10.1.2.3/8" is no address and no range`,
		"firewall: {allow: ['forge.example.org:443']}":           `is no address with a port; write it as 10.1.2.3:443 or [fd00::1]:53/udp`,
		"firewall: {allow: ['10.1.2.3:0']}":                      "0 is no port",
		"firewall: {allow: ['10.1.2.3:65536']}":                  "65536 is no port",
		"firewall: {allow: ['169.254.169.254:80']}":              "reconcile.firewall.allow[0]: 169.254.169.254 holds addresses of 169.254.0.0/16, which cannot be opened; leave it out, or write a smaller range: loopback, link-local addresses and cloud metadata are closed to every app",
		"firewall: {allow: ['0.0.0.0/0:80']}":                    "which cannot be opened",
		"firewall: {allow: ['[::/0]:80']}":                       "which cannot be opened",
		"firewall: {allow: ['[::ffff:10.1.2.3]:80']}":            "is no address and no range",
		"firewall: {docker_allow: ['mirror.example.org']}":       `reconcile.firewall.docker_allow[0]: "mirror.example.org" is no address with a port; write it as https://mirror.example.org or 10.1.2.3:5000`,
		"firewall: {docker_allow: ['ftp://mirror.example.org']}": "is no address with a port",
		"firewall: {docker_allow: ['169.254.169.254:80']}":       "link-local addresses and cloud metadata are closed to dockerd",
		"firewall: {docker_allow: ['https://m.example.org', '10.1.2.3:5000', 'http://127.0.0.1:5000']}": "",
		"firewall: {docker_cgroup: /system.slice}":                                                      `reconcile.firewall.docker_cgroup: "/system.slice" is no control group`,
		"firewall: {docker_cgroup: ../docker}":                                                          "is no control group",
		"firewall: {docker_cgroup: system.slice/docker.service}":                                        "",
		"proxy: {entrypoints: ['a:443']}":                                                               "port 443 is that of reconcile.proxy.https too",
		"proxy: {entrypoints: ['a:1', 'a:2']}":                                                          "there is an entrypoint a already",
		"proxy: {entrypoints: ['a:53/udp', 'b:53']}\n":                                                  "",
	} {
		_, err := Parse("x.yml", []byte("reconcile:\n  "+text))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s gives %v", text, err)
		}
	}
}

// Who is listed as a gateway names its visitors: nobody who is not one, and nothing that an app can be.
func TestN3_Gateways(t *testing.T) {
	c, err := Parse("x.yml", []byte("ingress: {kind: traefik}\nreconcile:\n  proxy:\n    gateways:\n      - 198.51.100.9\n      - 192.0.2.0/28\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := []Gateway{{netip.MustParsePrefix("198.51.100.9/32"), "x.yml:5: reconcile.proxy.gateways[0]"}, {netip.MustParsePrefix("192.0.2.0/28"), "x.yml:6: reconcile.proxy.gateways[1]"}}
	if got := c.Gateways(); !slices.Equal(got, want) {
		t.Errorf("got %+v", got)
	}
	if c := Default(); len(c.Gateways()) > 0 {
		t.Errorf("by default there are %v", c.Gateways())
	}
	for list, want := range map[string]string{
		"[198.51.100.9, 0.0.0.0/0]":    "x.yml:3: reconcile.proxy.gateways[1]: 0.0.0.0/0 is too wide: everybody in it could name any address as a visitor's; write the address of a gateway",
		"['::/0']":                     "x.yml:3: reconcile.proxy.gateways[0]: ::/0 is too wide",
		"[0.0.0.0/1, 128.0.0.0/1]":     "0.0.0.0/1 is too wide",
		"[128.0.0.0/7]":                "is too wide",
		"['::ffff:0.0.0.0/96']":        "is no address and no range",
		"['2001:db8::9']":              "2001:db8::9 is an address of IPv6, which the proxy never sees; write the IPv4 address",
		"[gateway.example.org]":        `"gateway.example.org" is no address and no range; write the address of a gateway as 198.51.100.9`,
		"['198.51.100.9:443']":         "is no address and no range",
		"['']":                         "is no address and no range",
		"[198.51.100.9/24]":            `"198.51.100.9/24" is no address and no range; the range is 198.51.100.0/24`,
		"[127.0.0.1]":                  "127.0.0.1 holds addresses of 127.0.0.0/8, from which no gateway connects",
		"[0.0.0.0]":                    "of 0.0.0.0/8",
		"[169.254.169.254]":            "of 169.254.0.0/16",
		"[255.255.255.255]":            "of 224.0.0.0/3",
		"[10.10.3.4]":                  "x.yml:3: reconcile.proxy.gateways[0]: 10.10.3.4 holds addresses of reconcile.subnet, 10.10.0.0/16, which apps have: an app could name any address as its visitor's",
		"[10.0.0.0/8]":                 "holds addresses of reconcile.subnet",
		"198.51.100.9":                 "x.yml:3: reconcile.proxy.gateways: ",
		"[203.0.113.0/24, 172.16.5.1]": "", // of the swarm's own networks Docker knows: cc-ci reconcile refuses them
		"[]":                           "",
	} {
		_, err := Parse("x.yml", []byte("ingress: {kind: traefik}\nreconcile:\n  proxy: {gateways: "+list+"}\n"))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s gives %v", list, err)
		}
	}
	_, err = Parse("x.yml", []byte("reconcile:\n  proxy: {gateways: [198.51.100.9]}\n"))
	if err == nil || !strings.Contains(err.Error(), "x.yml:2: reconcile.proxy.gateways: the embedded proxy does not read the PROXY protocol; leave it out, or set ingress.kind: traefik") {
		t.Errorf("with the embedded proxy: %v", err)
	}
}

func TestIngressKinds(t *testing.T) {
	c, err := Parse("/etc/cc-ci/x.yml", []byte("ingress: {kind: traefik, address: '127.0.0.1:8443', ca_file: ca.pem}"))
	if err != nil || c.Ingress.CAFile != "/etc/cc-ci/ca.pem" || Default().Ingress.Kind != IngressEmbedded {
		t.Errorf("%+v, %v", c.Ingress, err)
	}
	for text, want := range map[string]string{
		"kind: treafik":               `did you mean "traefik"?`,
		"address: ':443'":             `":443" is not an address`,
		"ca_file: /ca.pem":            "the embedded proxy has an authority of its own",
		"kind: traefik, address: far": `"far" is not an address`,
	} {
		if _, err := Parse("x.yml", []byte("ingress: {"+text+"}")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s gives %v", text, err)
		}
	}
}
