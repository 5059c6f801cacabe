package checks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// Healthy waits until the app itself answers as health demands. An answer that
// the proxy gives for a host name nobody has is not the app's: it never counts.
func (r *Runner) Healthy(ctx context.Context, health ccci.Health) error {
	probe := ccci.HTTPProbe{Path: health.Path, Status: health.Status, Contains: health.Contains}
	return r.until(ctx, 1, func(ctx context.Context) error { return r.probeHTTP(ctx, probe) })
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
		return r.probeHTTP(ctx, *probe.HTTP)
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
		case ccci.CodeOf(err) == ccci.CodeInvalid:
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

func (r *Runner) probeHTTP(ctx context.Context, probe ccci.HTTPProbe) error {
	host, err := r.host(probe.Domain)
	if err != nil {
		return err
	}
	path := or(probe.Path, "/")
	status, body, to, err := r.fetch(ctx, host, path)
	if err != nil {
		return err
	}
	if to != "" {
		return failf(body, "https://%s%s redirects to %s, which is no address of this run", host, path, to)
	}
	if !slices.Contains(probe.Status, status) {
		return failf(body, "https://%s%s answered %d, expected %s", host, path, status, codes(probe.Status))
	}
	if !bytes.Contains(body, []byte(probe.Contains)) {
		return failf(body, "https://%s%s: the answer does not hold %q", host, path, probe.Contains)
	}
	// What does the proxy say for a name that no app has?
	strangerStatus, answer, _, err := r.fetch(ctx, stranger+host, path)
	if err == nil && strangerStatus == status && bytes.Equal(answer, body) {
		return failf(body, "https://%s%s answers what the proxy answers for any unknown name: the app is not behind it", host, path)
	}
	return nil
}

// fetch asks for one page and reads it, and says where outside of the run it redirects to.
// A transport error is a Failure, since an app that is starting up refuses connections.
func (r *Runner) fetch(ctx context.Context, host, path string) (status int, body []byte, elsewhere string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+host+path, nil)
	if err != nil {
		return 0, nil, "", ccci.Errorf(ccci.CodeInvalid, "asking https://%s%s: %w", host, path, err)
	}
	resp, err := r.Target.HTTP.Do(req)
	if err != nil {
		return 0, nil, "", failf(nil, "https://%s%s: %v", host, path, unwrapURL(err))
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return 0, nil, "", failf(nil, "https://%s%s: reading the answer: %v", host, path, err)
	}
	return resp.StatusCode, body, r.elsewhere(resp), nil
}

func (r *Runner) probeTCP(ctx context.Context, probe ccci.TCPProbe) error {
	conn, err := r.Target.Dial(ctx, or(probe.Service, "app"), probe.Port)
	if err != nil {
		return failf(nil, "connecting to %s:%d: %v", or(probe.Service, "app"), probe.Port, err)
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
		return failf(nil, "connecting to %s: %v", where, err)
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	defer conn.Close()
	if send != "" { // with nothing to send it is the other side that speaks first, and may hang up at once
		if _, err := io.WriteString(conn, send); err != nil {
			return failf(nil, "sending to %s: %v", where, err)
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
			return failf(got, "%s did not send %q: %v", where, expect, err)
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
			return failf(output, "%s in %s did not end in time", args[0], service)
		}
		return err
	}
	if exit != step.Exit {
		return failf(output, "%s in %s exited with %d, expected %d", args[0], service, exit, step.Exit)
	}
	for _, text := range step.Contains {
		text, err := r.Vars.Expand(text)
		if err != nil {
			return err
		}
		if !bytes.Contains(output, []byte(text)) {
			return failf(output, "%s in %s: the output does not hold %q", args[0], service, text)
		}
	}
	for _, text := range step.Lacks {
		text, err := r.Vars.Expand(text)
		if err != nil {
			return err
		}
		if bytes.Contains(output, []byte(text)) {
			return failf(output, "%s in %s: the output holds %q", args[0], service, text)
		}
	}
	for name := range step.Save {
		r.save(name, string(bytes.TrimSpace(output)))
	}
	return nil
}
