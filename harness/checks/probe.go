package checks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"slices"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// Healthy waits until the app itself answers as health demands. An answer that the proxy may
// have given by itself is not the app's: that for a host name nobody has never counts, a
// redirection counts by what it leads to, and before either that or a refusal counts,
// [Target.Behind] must have found the app.
func (r *Runner) Healthy(ctx context.Context, health ccci.Health) error {
	probe := ccci.HTTPProbe{Path: health.Path, Status: health.Status}
	return r.until(ctx, 1, func(ctx context.Context) error {
		got, err := r.probeHTTP(ctx, probe)
		if err != nil {
			return r.unreached(ctx, got.status, err)
		}
		last, err := r.arrives(ctx, got, health.Status)
		if err != nil {
			return err
		}
		if !bytes.Contains(last.body, []byte(health.Contains)) {
			return lacks(last, health.Contains)
		}
		if r.Target.Behind == nil {
			return nil
		}
		return r.Target.Behind(ctx, got.status)
	})
}

// unreached says more of a probe that failed with the status of a proxy that does not reach the app:
// which port it asks for.
func (r *Runner) unreached(ctx context.Context, status int, err error) error {
	switch status {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		if r.Target.Behind != nil {
			var dead *Failure
			if told := r.Target.Behind(ctx, status); errors.As(told, &dead) {
				return told
			}
		}
	}
	return err
}

// maxHops is how often an answer may redirect, as in browsers' libraries.
const maxHops = 10

// arrives follows an answer that redirects, within the run and with its cookies, and fails
// unless the last one succeeds or has an accepted status. It returns the last one.
func (r *Runner) arrives(ctx context.Context, got answer, accepted []int) (answer, error) {
	first := got
	for hops := 0; got.next != nil; hops++ {
		if hops == maxHops {
			return answer{}, failf(bodyOf(got.body), "https://%s redirects more than %d times, at last to %s", first.where, maxHops, got.next)
		}
		var err error
		if got, err = r.fetch(ctx, got.next, got.cookies); err != nil {
			return answer{}, err
		}
		if got.elsewhere != "" {
			return answer{}, failf(bodyOf(got.body), "https://%s redirects to https://%s and from there to %s, which is no address of this run", first.where, got.where, got.elsewhere)
		}
	}
	if got.where != first.where && got.status/100 != 2 && !slices.Contains(accepted, got.status) {
		return answer{}, failf(bodyOf(got.body), "https://%s redirects to https://%s, which answered %d, expected success or %s", first.where, got.where, got.status, codes(accepted))
	}
	return got, nil
}

func lacks(got answer, text string) error {
	return failf(bodyOf(got.body), "https://%s: the answer does not hold %q", got.where, text)
}

// Ready waits until a probe has succeeded as often in a row as it demands.
func (r *Runner) Ready(ctx context.Context, probe ccci.Probe) error {
	return r.until(ctx, max(probe.Stable, 1), func(ctx context.Context) error {
		if probe.TCP != nil {
			return r.probeTCP(ctx, *probe.TCP)
		}
		if probe.HTTP == nil {
			return ccci.Errorf(ccci.CodeInvalid, "probe %q asks nothing", probe.Name).WithHint("give it http or tcp")
		}
		_, err := r.probeHTTP(ctx, *probe.HTTP)
		return err
	})
}

// until repeats ask until it succeeded stable times in a row or ctx is done,
// and then returns what the last answer lacked.
func (r *Runner) until(ctx context.Context, stable int, ask func(context.Context) error) error {
	var last error
	for row := 0; ; {
		err := ask(ctx)
		switch {
		case err == nil:
			if row++; row >= stable {
				return nil
			}
		case ccci.CodeOf(err) == ccci.CodeInvalid || isFinal(err):
			return err
		default:
			row = 0
			if ctx.Err() == nil || last == nil {
				last = err
			}
		}
		select {
		case <-ctx.Done():
			if last == nil {
				last = &Failure{Message: fmt.Sprintf("the probe did not succeed %d times in a row in time", stable)}
			}
			return last
		case <-time.After(retryPause):
		}
	}
}

func isFinal(err error) bool {
	var failure *Failure
	return errors.As(err, &failure) && failure.Final
}

func (r *Runner) probeHTTP(ctx context.Context, probe ccci.HTTPProbe) (answer, error) {
	host, err := r.host(probe.Domain)
	if err != nil {
		return answer{}, err
	}
	path := or(probe.Path, "/")
	ask := func(host string) (answer, error) {
		u, err := url.Parse("https://" + host + path)
		if err != nil {
			return answer{}, ccci.Errorf(ccci.CodeInvalid, "asking https://%s%s: %w", host, path, err)
		}
		return r.fetch(ctx, u, nil)
	}
	got, err := ask(host)
	if err != nil {
		return answer{}, err
	}
	if got.elsewhere != "" {
		return answer{}, failf(bodyOf(got.body), "https://%s%s redirects to %s, which is no address of this run", host, path, got.elsewhere)
	}
	// What does the proxy say for a name that no app has?
	strange, strangeErr := answer{}, error(nil)
	if slices.Contains(probe.Status, got.status) || got.status == http.StatusNotFound {
		strange, strangeErr = ask(stranger + host)
	}
	proxys := strangeErr == nil && strange.status == got.status && bytes.Equal(strange.body, got.body)
	if proxys && r.Target.Unrouted != nil {
		if why, hint := r.Target.Unrouted(host, path); why != "" {
			return answer{}, &Failure{Message: clip(why), Hint: hint, Final: true}
		}
	}
	if !slices.Contains(probe.Status, got.status) {
		return answer{status: got.status}, failf(bodyOf(got.body), "https://%s%s answered %d, expected %s", host, path, got.status, codes(probe.Status))
	}
	if !bytes.Contains(got.body, []byte(probe.Contains)) {
		return answer{}, lacks(got, probe.Contains)
	}
	if proxys {
		return answer{}, failf(bodyOf(got.body), "https://%s%s answers what the proxy answers for any unknown name: the app is not behind it", host, path)
	}
	return got, nil
}

// answer is what one request brought.
type answer struct {
	where     string // host and path that were asked for
	status    int
	body      []byte
	next      *url.URL       // where it redirects to
	elsewhere string         // the same, outside of the run
	cookies   http.CookieJar // of it and what led to it
}

// fetch asks for one page and reads it, and says where it redirects to.
// A transport error is a Failure, since an app that is starting up refuses connections.
func (r *Runner) fetch(ctx context.Context, u *url.URL, cookies http.CookieJar) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	where := u.Host + u.EscapedPath()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return answer{}, ccci.Errorf(ccci.CodeInvalid, "asking https://%s: %w", where, err)
	}
	client := *r.Target.HTTP
	if client.Jar = cookies; cookies == nil {
		if client.Jar, err = cookiejar.New(nil); err != nil {
			return answer{}, fmt.Errorf("making a jar for cookies: %w", err)
		}
	}
	resp, err := client.Do(req)
	if err != nil {
		return answer{}, failf(seen{}, "https://%s: %v", where, unwrapURL(err))
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return answer{}, failf(seen{}, "https://%s: reading the answer: %v", where, err)
	}
	next, elsewhere := r.redirection(resp)
	return answer{where, resp.StatusCode, body, next, elsewhere, client.Jar}, nil
}

func (r *Runner) probeTCP(ctx context.Context, probe ccci.TCPProbe) error {
	conn, err := r.Target.Dial(ctx, or(probe.Service, "app"), probe.Port)
	if err != nil {
		return failf(seen{}, "connecting to %s:%d: %v", or(probe.Service, "app"), probe.Port, err)
	}
	return conn.Close()
}

func (r *Runner) tcp(ctx context.Context, step ccci.TCPStep) error {
	send, err := r.Vars.Expand(step.Send)
	if err != nil {
		return err
	}
	expect, err := r.Vars.Expand(step.Expect)
	if err != nil {
		return err
	}
	where := fmt.Sprintf("%s:%d", or(step.Service, "app"), step.Port)
	conn, err := r.Target.Dial(ctx, or(step.Service, "app"), step.Port)
	if err != nil {
		return failf(seen{}, "connecting to %s: %v", where, err)
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	defer conn.Close()
	if send != "" { // with nothing to send it is the other side that speaks first, and may hang up at once
		if _, err := io.WriteString(conn, send); err != nil {
			return failf(seen{}, "sending to %s: %v", where, err)
		}
	}
	var got []byte
	buf := make([]byte, 4096)
	for !bytes.Contains(got, []byte(expect)) {
		n, err := conn.Read(buf)
		got = append(got, buf[:n]...)
		if err != nil || len(got) > maxBody {
			if bytes.Contains(got, []byte(expect)) {
				break
			}
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			return failf(seen{"What it sent", got}, "%s did not send %q: %v", where, expect, err)
		}
	}
	return nil
}

func (r *Runner) exec(ctx context.Context, step ccci.ExecStep) error {
	args := make([]string, len(step.Command))
	for i, arg := range step.Command {
		var err error
		if args[i], err = r.Vars.Expand(arg); err != nil {
			return err
		}
	}
	stdin, err := r.Vars.Expand(step.Stdin)
	if err != nil {
		return err
	}
	service := or(step.Service, "app")
	if len(args) == 0 {
		return ccci.Errorf(ccci.CodeInvalid, "an exec step for service %s has no command", service)
	}
	exit, output, err := r.Target.Exec(ctx, service, step.User, args, []byte(stdin))
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			return failf(seen{"Output of the command", output}, "%s in %s did not end in time", args[0], service)
		}
		return err
	}
	if exit != step.Exit {
		return failf(seen{"Output of the command", output}, "%s in %s exited with %d, expected %d", args[0], service, exit, step.Exit)
	}
	for _, text := range step.Contains {
		text, err := r.Vars.Expand(text)
		if err != nil {
			return err
		}
		if !bytes.Contains(output, []byte(text)) {
			return failf(seen{"Output of the command", output}, "%s in %s: the output does not hold %q", args[0], service, text)
		}
	}
	for _, text := range step.Lacks {
		text, err := r.Vars.Expand(text)
		if err != nil {
			return err
		}
		if bytes.Contains(output, []byte(text)) {
			return failf(seen{"Output of the command", output}, "%s in %s: the output holds %q", args[0], service, text)
		}
	}
	for name := range step.Save {
		value := string(bytes.TrimSpace(output))
		if value == "" {
			return failf(seen{"Output of the command", output}, "%s in %s: there is no output to save as %s, and every text holds an empty one", args[0], service, name)
		}
		r.save(name, value)
	}
	return nil
}
