package doctor

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// BridgeSettings is where the kernel says whether it filters what passes within a bridge.
const BridgeSettings = "/proc/sys/net/bridge"

// Bridges looks whether the kernel lets its firewall judge packets between containers of one
// bridge. Without that, an app reaches those of every other run on docker_gwbridge,
// whatever the rules of Docker and cc-ci are. Docker turns it on; the settings of
// other programs, such as libvirt's, turn it off.
func Bridges(dir string) Check {
	return func(context.Context) []ccci.Diagnosis {
		const name = "firewall: bridges"
		var off []string
		for _, setting := range []string{"bridge-nf-call-iptables", "bridge-nf-call-ip6tables"} {
			text, err := os.ReadFile(filepath.Join(dir, setting))
			if err != nil {
				return []ccci.Diagnosis{{Check: name, Code: ccci.CodeInfra, Message: "the kernel does not filter packets between containers of one bridge, so that runs reach each other: " + err.Error(),
					Hint: "modprobe br_netfilter, and let it be loaded at each start of the machine"}}
			}
			if strings.TrimSpace(string(text)) != "1" {
				off = append(off, "net.bridge."+setting+"=1")
			}
		}
		if len(off) > 0 {
			return []ccci.Diagnosis{{Check: name, Code: ccci.CodeInfra, Message: "packets between containers of one bridge pass by the firewall, so that runs reach each other",
				Hint: "sysctl -w " + strings.Join(off, " ") + ", and find who turned it off in /etc/sysctl.d"}}
		}
		return []ccci.Diagnosis{Well(name, "the kernel filters packets between containers of one bridge")}
	}
}
