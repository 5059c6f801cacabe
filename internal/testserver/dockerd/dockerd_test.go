package dockerd

import (
	"os"
	"strings"
	"testing"
)

// A daemon of one's own is another one than the machine's, and leaves nothing behind.
func TestStart(t *testing.T) {
	var s *Server
	t.Run("lives", func(t *testing.T) {
		s = Start(t)
		info, err := s.Docker.Info(t.Context())
		if err != nil || !strings.HasPrefix(info.DockerRootDir, s.dir) {
			t.Fatalf("%s, %v", info.DockerRootDir, err)
		}
		if err := s.Restart(); err != nil {
			t.Fatal(err)
		}
		if err := s.Import(t.Context(), "self:1", map[string]string{"/self": "/proc/self/exe"}, `ENTRYPOINT ["/self"]`); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Docker.ImageInspect(t.Context(), "self:1"); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Dial(t.Context(), "tcp", "172.31.0.1:1"); err == nil || !strings.Contains(err.Error(), "refused") {
			t.Errorf("its bridge answers %v", err)
		}
	})
	if s == nil {
		return // skipped
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(s.dir); err == nil || strings.Contains(string(mounts), s.dir) || len(s.processes()) > 0 {
		t.Errorf("left behind: %v, %v", err, s.processes())
	}
}
