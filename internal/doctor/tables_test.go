package doctor

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// kernelSettings makes a folder as [KernelSettings] is, with these values.
func kernelSettings(t *testing.T, values map[string]int64) string {
	t.Helper()
	dir := t.TempDir()
	for setting, value := range values {
		path := filepath.Join(dir, strings.ReplaceAll(setting, ".", "/"))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, fmt.Appendln(nil, value), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestN3_SharedTablesAreLarge(t *testing.T) {
	const well, warning = "ok       kernel: shared tables", "warning  kernel: shared tables"
	expect(t, "a kernel without them", said(t, Tables(t.TempDir())), well)
	debian := map[string]int64{
		"fs.inotify.max_user_instances":     128,
		"fs.inotify.max_user_watches":       1 << 24,
		"fs.aio-max-nr":                     65536,
		"fs.epoll.max_user_watches":         5491511,
		"net.ipv4.neigh.default.gc_thresh1": 128,
		"net.ipv4.neigh.default.gc_thresh2": 512,
		"net.ipv4.neigh.default.gc_thresh3": 1024,
		"net.ipv6.neigh.default.gc_thresh1": 128,
		"net.ipv6.neigh.default.gc_thresh2": 512,
		"net.ipv6.neigh.default.gc_thresh3": 1024,
	}
	expect(t, "as Debian has them", said(t, Tables(kernelSettings(t, debian))), warning,
		"watchers of files; asynchronous reads and writes, as databases use them; watches of epoll, which docker and runc do not start without; "+
			"neighbours on every network (ARP); neighbours on every IPv6 network (NDP)\n",
		"sysctl -w fs.inotify.max_user_instances=4194304 fs.aio-max-nr=268435456 fs.epoll.max_user_watches=268435456"+
			" net.ipv4.neigh.default.gc_thresh1=4096 net.ipv4.neigh.default.gc_thresh2=524288 net.ipv4.neigh.default.gc_thresh3=1048576"+
			" net.ipv6.neigh.default.gc_thresh1=4096 net.ipv6.neigh.default.gc_thresh2=524288 net.ipv6.neigh.default.gc_thresh3=1048576, and write it")

	large := map[string]int64{}
	for _, table := range SharedTables {
		large[table.Setting] = table.Least
	}
	expect(t, "as the appliance sets them", said(t, Tables(kernelSettings(t, large))), well)
	for _, table := range SharedTables {
		large[table.Setting] = table.Least - 1
		expect(t, table.Setting+" alone is small", said(t, Tables(kernelSettings(t, large))), warning, "the host: "+table.What+"\n",
			fmt.Sprintf("sysctl -w %s=%d, and write it", table.Setting, table.Least))
		large[table.Setting] = table.Least
	}
}
