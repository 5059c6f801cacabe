package harness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/checks"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

// behind fails if a backend that the app's labels name to the proxy does not answer, when an answer
// with that status may be the proxy's own: its middlewares redirect and refuse without asking the app.
func (in *instance) behind(ctx context.Context, status int) error {
	backends, pretends := backendsOf(in.current)
	if status/100 == 2 && !pretends {
		return nil
	}
	for _, b := range backends {
		err := in.answers(ctx, b)
		if err == nil {
			continue
		}
		if ccci.CodeOf(err) == ccci.CodeInfra && ctx.Err() == nil {
			return err
		}
		return &checks.Failure{Message: fmt.Sprintf("https://%s answers %d, which may be the proxy's own answer: port %d of service %s, where the labels send visitors, does not answer: %v", in.domain, status, b.port, b.service, err)}
	}
	return nil
}

// backend is where the proxy sends what it does not answer by itself.
type backend struct {
	service string
	port    int
	speaks  bool // plain HTTP
}

// pretenders are options with which the proxy answers by itself as an app in good health does.
var pretenders = []string{".errors.statusrewrites.", ".circuitbreaker.responsecode", ".ipallowlist.rejectstatuscode"}

// backendsOf reads the labels of the services that are to run, as admission leaves them, and
// reports whether the proxy may answer by itself with success.
func backendsOf(stack *recipe.Stack) (backends []backend, pretends bool) {
	for _, s := range stack.Config.Services {
		if recipe.Replicas(s) == 0 {
			continue
		}
		labels := map[string]string{}
		for key, value := range s.Deploy.Labels {
			labels[strings.ToLower(key)] = value
		}
		if on, err := strconv.ParseBool(labels["traefik.enable"]); err != nil || !on {
			continue
		}
		for _, key := range slices.Sorted(maps.Keys(labels)) {
			pretends = pretends || slices.ContainsFunc(pretenders, func(part string) bool { return strings.Contains(key, part) })
			name, ok := strings.CutSuffix(key, ".loadbalancer.server.port")
			port, err := strconv.Atoi(strings.TrimSpace(labels[key]))
			if ok && err == nil && strings.HasPrefix(name, "traefik.http.services.") {
				scheme := labels[name+".loadbalancer.server.scheme"]
				backends = append(backends, backend{s.Name, port, scheme == "" || strings.EqualFold(scheme, "http")})
			}
		}
	}
	return backends, pretends
}

// answerLimit bounds the wait for a backend's first byte.
const answerLimit = 15 * time.Second

// answers asks a backend without the proxy. What it answers is its own affair.
func (in *instance) answers(ctx context.Context, b backend) error {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	conn, err := in.Deployer.Dial(ctx, in.current, b.service, b.port)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	defer conn.Close()
	if !b.speaks {
		return nil
	}
	if _, err := fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", in.domain); err != nil {
		return err
	}
	_, err = io.ReadFull(conn, make([]byte, 1))
	if errors.Is(err, io.EOF) {
		return errors.New("it hangs up without an answer")
	}
	if ctx.Err() != nil {
		return fmt.Errorf("it gives no answer within %s", ccci.DurationWords(answerLimit))
	}
	return err
}
