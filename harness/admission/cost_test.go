package admission

import (
	"fmt"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/recipe-maintainers/cc-ci/internal/testserver/race"
)

// heavy are inputs that once kept admission busy, made of n parts.
var heavy = map[string]func(n int) map[string]string{
	"services": func(n int) map[string]string {
		return map[string]string{"compose.yml": "services:\n" + repeat(n, "  s%d: {image: 'a:1', privileged: true, labels: ['traefik.x=1']}\n")}
	},
	"refused labels": func(n int) map[string]string {
		return map[string]string{"compose.yml": "services:\n  app:\n    image: a:1\n    labels:\n" + repeat(n, "      - traefik.evil.x%d=1\n")}
	},
	"files": func(n int) map[string]string {
		files := map[string]string{}
		names := []string{"compose.yml"}
		for i := range min(n, 200) {
			name := fmt.Sprintf("c%d.yml", i)
			files[name], names = "services: {app: {image: 'a:1'}}\n", append(names, name)
		}
		files["compose.yml"] = "services: {app: {image: 'a:1'}}\n"
		files[".env.sample"] = plainSample + "COMPOSE_FILE=" + strings.Join(names, ":") + "\n"
		return files
	},
	"values": func(n int) map[string]string {
		return map[string]string{"compose.yml": "services:\n  app:\n    image: a:1\n    command:\n" + repeat(n, "      - a%d\n")}
	},
	"environment": func(n int) map[string]string {
		return map[string]string{"compose.yml": "services:\n  app:\n    image: a:1\n    environment:\n" + repeat(n, "      A%d: /var/run/docker.sock\n")}
	},
	"aliases": func(n int) map[string]string {
		return map[string]string{"compose.yml": "x-e: &e\n" + repeat(n/10, "  A%d: x\n") + "services:\n" + repeat(49, "  s%d: {image: 'a:1', environment: *e}\n")}
	},
	"mounts": func(n int) map[string]string {
		return map[string]string{"compose.yml": "services:\n  app:\n    image: a:1\n    volumes:\n" + repeat(n, "      - /etc/x%[1]d:/y%[1]d\n")}
	},
	"files of the host": func(n int) map[string]string {
		return map[string]string{"compose.yml": "services:\n  app:\n    image: a:1\nconfigs:\n" + repeat(n, "  c%[1]d: {file: '/etc/x%[1]d'}\n")}
	},
	"variables": func(n int) map[string]string {
		return map[string]string{
			".env.sample": plainSample + "BIG=" + strings.Repeat("x", 60_000) + "\n",
			"compose.yml": "services:\n  app:\n    image: a:1\n    labels:\n" + repeat(n, "      l%d: ${BIG}\n"),
		}
	},
	"variables of the env file": func(n int) map[string]string {
		return map[string]string{".env.sample": plainSample + repeat(n, "LD_PRELOAD%[1]d=x\nDOCKER_TLS%[1]d=x\n"), "compose.yml": "services: {app: {image: 'a:1'}}\n"}
	},
	"router rule": func(n int) map[string]string {
		return map[string]string{"compose.yml": "services:\n  app:\n    image: a:1\n    labels:\n" +
			repeat(min(n, 250), "      traefik.http.routers.${STACK_NAME}%d.rule: HostRegexp(`^(a|b|c|d)(a|b|c|d)(a|b|c|d)(a|b|c|d)(a|b|c|d)(a|b|c|d)$`)\n")}
	},
	"everything within its bounds": func(n int) map[string]string {
		one := "  s%d:\n    image: a:1\n    networks: [proxy]\n    environment:\n" + strings.ReplaceAll(repeat(n/50, "      V%d: '{{.Task.Slot}} of ${DOMAIN}'\n"), "%", "%%") + "    volumes: ['v:/v']\n"
		return map[string]string{"compose.yml": "services:\n" + repeat(50, one) + "volumes: {v: {}}\nnetworks: {proxy: {external: true}}\n"}
	},
	"what abra refuses": func(n int) map[string]string {
		return map[string]string{".env.sample": plainSample + "X=5s\n", "compose.yml": "services:\n" +
			repeat(48, "  s%d:\n    image: a:1\n    stop_grace_period: ${X}\n    healthcheck: {test: a, interval: '${X}', timeout: '${X}', start_period: '${X}'}\n") +
			"  app:\n    image: a:1\n    environment:\n" + repeat(n, "      A%d: x\n")}
	},
	"references of the env file": func(n int) map[string]string {
		return map[string]string{".env.sample": plainSample + "A='x'\n" + repeat(n/50, "B%d="+strings.Repeat("$NO", 50)+"\n"), "compose.yml": "services: {app: {image: 'a:1'}}\n"}
	},
	"computed exports": func(n int) map[string]string {
		return map[string]string{"abra.sh": repeat(n, "export A%d=$X\n"), "compose.yml": "services: {app: {image: 'a:1'}}\n"}
	},
	"dropped keys": func(n int) map[string]string {
		return map[string]string{"compose.yml": "services:\n  app:\n    image: a:1\n    volumes:\n" + repeat(n, "      - a:/b%d\n")}
	},
	"secrets of a length": func(n int) map[string]string {
		return map[string]string{
			".env.sample": plainSample + "SECRET_X_VERSION=v1 # length=2000000000\n",
			"compose.yml": "services: {app: {image: 'a:1', secrets: [x]}}\nsecrets: {x: {external: true, name: '${STACK_NAME}_x_${SECRET_X_VERSION}'}}\n",
		}
	},
	"interpolation": func(n int) map[string]string {
		return map[string]string{"compose.yml": "services:\n  app:\n    image: a:1\n    command: \"" + strings.Repeat("${A:-b}", n) + "\"\n"}
	},
}

func repeat(n int, format string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

// longest bounds the processor time in which any input is judged. The dearest takes 1.2 s on a machine of two
// processors, and an eighth of it 4.4 s with the race detector.
const longest = 20 * time.Second

// Whatever fits into the limits of files is judged in bounded time, and in time and memory that
// grow no faster than the files.
func TestN3_JudgingIsBounded(t *testing.T) {
	for name, parts := range heavy {
		t.Run(name, func(t *testing.T) {
			cost := func(n int) (time.Duration, uint64) {
				dir := tree(t, fourTimes(parts(n)))
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				start := processorTime(t)
				_, err := admitDir(dir, testPolicy())
				took := processorTime(t) - start
				runtime.ReadMemStats(&after)
				if err != nil && len(err.Error()) > 64<<10 {
					t.Errorf("a message of %d bytes", len(err.Error()))
				}
				return took, after.TotalAlloc - before.TotalAlloc
			}
			n := 64_000
			for f := parts(n); len(f["compose.yml"]) > 120<<10 || len(f[".env.sample"]) > 1000<<10 || len(f["abra.sh"]) > 1000<<10; f = parts(n) {
				n /= 2
			}
			if race.Detector {
				n /= 8 // each part costs ten times as much, and pools are emptied at random
			}
			half, _ := cost(n / 2)
			whole, memory := cost(n)
			t.Logf("%d parts: %v, %v for half, %d MiB in sum", n, whole.Round(time.Millisecond), half.Round(time.Millisecond), memory>>20)
			if whole > 3*half && whole > 4*time.Second { // small times say nothing
				t.Errorf("twice the input takes %v, and half of it %v", whole, half)
			}
			if whole > longest {
				t.Errorf("it takes %v, more than %v", whole, longest)
			}
			if memory > 400<<20 && !race.Detector {
				t.Errorf("%d MiB are allocated", memory>>20)
			}
		})
	}
}

// processorTime is what this process has computed so far, whatever else the machine does.
func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// fourTimes is a recipe whose compose file is there four times: all that fits into
// the limits.
func fourTimes(files map[string]string) map[string]string {
	if files[".env.sample"] == "" {
		files[".env.sample"] = plainSample
	}
	if !strings.Contains(files[".env.sample"], "COMPOSE_FILE") {
		files["a.yml"], files["b.yml"], files["c.yml"] = files["compose.yml"], files["compose.yml"], files["compose.yml"]
		files[".env.sample"] += "COMPOSE_FILE=compose.yml:a.yml:b.yml:c.yml\n"
	}
	return files
}

// A message quotes a line of a value at most, and lists so many refusals.
func TestN3_MessagesAreBounded(t *testing.T) {
	long := strings.Repeat("x", 100_000)
	dir := tree(t, map[string]string{"compose.yml": "services:\n  app:\n    image: a:1\n    volumes:\n      - /etc/" + long + ":/y\n    labels:\n" +
		repeat(200, "      - traefik.evil.x%d=1\n")})
	_, err := admitDir(dir, testPolicy())
	if err == nil {
		t.Fatal("admitted")
	}
	if n := len(err.Error()); n > 16<<10 {
		t.Errorf("a message of %d bytes", n)
	}
	if !strings.Contains(err.Error(), "asks for 201 things") || !strings.HasSuffix(err.Error(), "\nand 161 more") {
		t.Errorf("%.300s", err)
	}
}

func TestShort(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "a": "a", "a\nb": "a…", strings.Repeat("ä", maxQuote): strings.Repeat("ä", maxQuote), strings.Repeat("ä", maxQuote+1): strings.Repeat("ä", maxQuote) + "…",
		strings.Repeat("a", maxQuote+1): strings.Repeat("a", maxQuote) + "…",
	} {
		if got := short(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
