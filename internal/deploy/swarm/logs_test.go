package swarm

import (
	"encoding/binary"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"

	"github.com/recipe-maintainers/cc-ci/harness"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

// frame is one message of a log as the daemon sends it.
func frame(w io.Writer, stream byte, text string) {
	head := [8]byte{0: stream}
	binary.BigEndian.PutUint32(head[4:], uint32(len(text)))
	_, _ = w.Write(head[:])
	_, _ = io.WriteString(w, text)
}

// daemonWith answers as a daemon with one container whose log is what write sends. The case of
// a real one is in package deploytest; a log of this size is not made there.
func daemonWith(t *testing.T, config container.LogConfig, write func(w io.Writer)) *Deployer {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := func(v any) {
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(v)
		}
		switch {
		case strings.HasSuffix(r.URL.Path, "/containers/json"):
			answer([]container.Summary{{ID: strings.Repeat("c", 64), Labels: map[string]string{labelServiceName: "s_app"}}})
		case strings.HasSuffix(r.URL.Path, "/logs"):
			write(w)
		default:
			answer(container.InspectResponse{ContainerJSONBase: &container.ContainerJSONBase{HostConfig: &container.HostConfig{LogConfig: config}}, Config: &container.Config{}})
		}
	}))
	t.Cleanup(server.Close)
	docker, err := client.NewClientWithOpts(client.WithHost("tcp://"+server.Listener.Addr().String()), client.WithVersion("1.41"))
	if err != nil {
		t.Fatal(err)
	}
	d, err := New(Options{RunID: "261129-010203-abcdef", Docker: docker})
	if err != nil {
		t.Fatal(err)
	}
	d.ready = true
	return d
}

// A log is read in constant memory, however long it is, and its streams are told apart.
func TestLogsNeedConstantMemory(t *testing.T) {
	size := 256 << 20
	if testing.Short() {
		size = 32 << 20
	}
	message := strings.Repeat("x", 16<<10)
	d := daemonWith(t, container.LogConfig{}, func(w io.Writer) {
		for n := 0; n < size; n += len(message) {
			frame(w, 1, message) // one line without an end
		}
		frame(w, 2, "end\n")
	})
	var got [2]int
	var peak uint64
	inUse := func() uint64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapInuse
	}
	runtime.GC()
	before := inUse() // other tests of the package are in it
	err := d.Logs(t.Context(), &recipe.Stack{Name: "s"}, func(p harness.LogPiece) error {
		n := 0
		if p.Stderr {
			n = 1
		}
		if got[n] += len(p.Text); got[n]%(8<<20) == 0 {
			peak = max(peak, inUse())
		}
		return nil
	})
	if err != nil || got != [2]int{size, 4} {
		t.Errorf("%d bytes, want %d; %v", got, size, err)
	}
	if bound := before + uint64(max(size/4, 24<<20)); peak > bound {
		t.Errorf("the heap grew from %d to %d MiB for a log of %d MiB", before>>20, peak>>20, size>>20)
	}
}

func TestLogsSayWhatIsMissing(t *testing.T) {
	for name, tc := range map[string]struct {
		options map[string]string
		size    int
		rotated bool
	}{
		"no limit":              {nil, 3 << 20, false},
		"below the limit":       {map[string]string{"max-size": "10m", "max-file": "3"}, 3 << 20, false},
		"two of three are full": {map[string]string{"max-size": "1m", "max-file": "3"}, 3 << 20, true},
		"one file, half full":   {map[string]string{"max-size": "5m"}, 3 << 20, true},
		"one file, new":         {map[string]string{"max-size": "50m"}, 3 << 20, false},
	} {
		d := daemonWith(t, container.LogConfig{Type: "json-file", Config: tc.options}, func(w io.Writer) {
			for n := 0; n < tc.size; n += 1 << 10 {
				frame(w, 1, strings.Repeat("x", 1<<10-1)+"\n")
			}
		})
		rotated := false
		err := d.Logs(t.Context(), &recipe.Stack{Name: "s"}, func(p harness.LogPiece) error {
			rotated = rotated || p.Rotated
			return p.Err
		})
		if err != nil || rotated != tc.rotated {
			t.Errorf("%s: rotated is %t, %v", name, rotated, err)
		}
	}
}

// The last lines of a failed task are whole: a half of one might be the half of a secret.
func TestLastLinesAreWhole(t *testing.T) {
	for name, tc := range map[string]struct {
		write func(w io.Writer)
		want  string
	}{
		"some lines": {func(w io.Writer) { frame(w, 1, "one\n"); frame(w, 2, "two\r\n"); frame(w, 1, "three") }, "one|two|three"},
		"a line in two messages, another stream between": {func(w io.Writer) {
			frame(w, 1, "begins, ")
			frame(w, 2, "error\n")
			frame(w, 1, "ends\n")
		}, "error|begins, ends"},
		"the first of many may be the rest of a line": {func(w io.Writer) {
			frame(w, 1, "the rest\n")
			for range tailMessages - 1 {
				frame(w, 1, "line\n")
			}
		}, strings.Repeat("line|", tailMessages-2) + "line"},
		"a line that is too long": {func(w io.Writer) {
			for range 10 {
				frame(w, 1, strings.Repeat("x", 16<<10))
			}
			frame(w, 1, "\nlast\n")
		}, "(a line longer than 64KiB)|last"},
	} {
		d := daemonWith(t, container.LogConfig{}, tc.write)
		lines, err := d.lastLines(t.Context(), "c", 2*tailMessages)
		if got := strings.Join(lines, "|"); err != nil || got != tc.want {
			t.Errorf("%s: %.200q, %v", name, got, err)
		}
	}
}
