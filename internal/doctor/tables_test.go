package doctor

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

func TestN3_SharedTablesAreLarge(t *testing.T) {
	dir := t.TempDir()
	set := func(instances, watches, aio int) {
		t.Helper()
		for path, value := range map[string]int{"fs/inotify/max_user_instances": instances, "fs/inotify/max_user_watches": watches, "fs/aio-max-nr": aio} {
			if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(path)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, path), fmt.Appendln(nil, value), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	expect(t, "a kernel without them", said(t, Tables(dir)), "ok       kernel: shared tables")
	set(128, 1<<24, 65536)
	expect(t, "as Debian has them", said(t, Tables(dir)), "warning  kernel: shared tables", "watchers of files; asynchronous reads",
		"sysctl -w fs.inotify.max_user_instances=4194304 fs.aio-max-nr=268435456, and write it")
	set(1<<22, 1<<24, 1<<28)
	expect(t, "as the appliance sets them", said(t, Tables(dir)), "ok       kernel: shared tables")
}
