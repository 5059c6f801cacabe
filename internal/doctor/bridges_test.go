package doctor

import (
	"os"
	"path/filepath"
	"testing"
)

func TestN3_BridgesAreFiltered(t *testing.T) {
	dir := t.TempDir()
	set := func(four, six string) {
		t.Helper()
		for name, value := range map[string]string{"bridge-nf-call-iptables": four, "bridge-nf-call-ip6tables": six} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(value+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	expect(t, "without the module", said(t, Bridges(dir)), "problem  firewall: bridges", "modprobe br_netfilter")
	set("0", "1")
	expect(t, "turned off", said(t, Bridges(dir)), "problem  firewall: bridges", "sysctl -w net.bridge.bridge-nf-call-iptables=1,")
	set("1", "1")
	expect(t, "well", said(t, Bridges(dir)), "ok       firewall: bridges")
}
