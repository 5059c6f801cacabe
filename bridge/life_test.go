package bridge_test

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/bridge"
)

// life is one process's view of the world, which ends at its n-th call to any
// port, just before or just after the call took effect, as by kill -9.
type life struct {
	w     *world
	at    int // 0: never
	after bool
	kill  context.CancelFunc

	mu    sync.Mutex
	calls int
	dead  bool
	lease ccci.Lease
}

var errKilled = errors.New("the process is dead")

func (l *life) config() bridge.Config {
	cfg := l.w.config()
	cfg.Forge, cfg.Engine, cfg.Store = lifeForge{cfg.Forge, l}, lifeEngine{cfg.Engine, l}, lifeStore{cfg.Store, l}
	cfg.Blobs, cfg.Locker = lifeBlobs{cfg.Blobs, l}, lifeLocker{cfg.Locker, l}
	return cfg
}

// do makes a call unless the process is dead, or dies in it.
func (l *life) do(effect func() error) error {
	l.mu.Lock()
	if l.dead {
		l.mu.Unlock()
		return errKilled
	}
	l.calls++
	last := l.calls == l.at
	if last {
		l.dead = true
	}
	lease := l.lease
	l.mu.Unlock()
	if !last {
		return effect()
	}
	if l.after {
		_ = effect()
	}
	l.kill()
	if lease != nil {
		_ = lease.Release() // as its time runs out
	}
	return errKilled
}

func (l *life) died() bool { l.mu.Lock(); defer l.mu.Unlock(); return l.dead }

type lifeForge struct {
	ccci.Forge
	l *life
}

func (f lifeForge) Comments(ctx context.Context, r ccci.RepoRef, c ccci.Cursor) (out []ccci.Comment, next ccci.Cursor, err error) {
	err = f.l.do(func() error { out, next, err = f.Forge.Comments(ctx, r, c); return err })
	return out, next, err
}

func (f lifeForge) PullRequest(ctx context.Context, ref ccci.PRRef) (pr ccci.PullRequest, err error) {
	err = f.l.do(func() error { pr, err = f.Forge.PullRequest(ctx, ref); return err })
	return pr, err
}

func (f lifeForge) Merge(ctx context.Context, ref ccci.PRRef, tested ccci.Commit) (m ccci.Merge, err error) {
	err = f.l.do(func() error { m, err = f.Forge.Merge(ctx, ref, tested); return err })
	return m, err
}

func (f lifeForge) HeadAt(ctx context.Context, ref ccci.PRRef, c ccci.Comment) (at ccci.Commit, err error) {
	err = f.l.do(func() error { at, err = f.Forge.HeadAt(ctx, ref, c); return err })
	return at, err
}

func (f lifeForge) Member(ctx context.Context, org string, u ccci.User) (ok bool, err error) {
	err = f.l.do(func() error { ok, err = f.Forge.Member(ctx, org, u); return err })
	return ok && err == nil, err
}

func (f lifeForge) PostComment(ctx context.Context, ref ccci.PRRef, key, body string) (id ccci.CommentID, err error) {
	err = f.l.do(func() error { id, err = f.Forge.PostComment(ctx, ref, key, body); return err })
	return id, err
}

func (f lifeForge) EditComment(ctx context.Context, ref ccci.PRRef, id ccci.CommentID, body string) error {
	return f.l.do(func() error { return f.Forge.EditComment(ctx, ref, id, body) })
}

func (f lifeForge) SetStatus(ctx context.Context, r ccci.RepoRef, c ccci.Commit, s ccci.CommitStatus) error {
	return f.l.do(func() error { return f.Forge.SetStatus(ctx, r, c, s) })
}

type lifeEngine struct {
	ccci.Engine
	l *life
}

func (e lifeEngine) Start(ctx context.Context, job ccci.Job) (ref ccci.BuildRef, err error) {
	err = e.l.do(func() error { ref, err = e.Engine.Start(ctx, job); return err })
	return ref, err
}

func (e lifeEngine) Status(ctx context.Context, ref ccci.BuildRef) (b ccci.Build, err error) {
	err = e.l.do(func() error { b, err = e.Engine.Status(ctx, ref); return err })
	return b, err
}

func (e lifeEngine) Cancel(ctx context.Context, ref ccci.BuildRef) error {
	return e.l.do(func() error { return e.Engine.Cancel(ctx, ref) })
}

func (e lifeEngine) Logs(ctx context.Context, ref ccci.BuildRef, offset int64) (r io.ReadCloser, err error) {
	err = e.l.do(func() error { r, err = e.Engine.Logs(ctx, ref, offset); return err })
	return r, err
}

type lifeStore struct {
	ccci.Store
	l *life
}

func (s lifeStore) ClaimRun(ctx context.Context, run ccci.Run) (r ccci.Run, created bool, err error) {
	err = s.l.do(func() error { r, created, err = s.Store.ClaimRun(ctx, run); return err })
	return r, created, err
}

func (s lifeStore) UpdateRun(ctx context.Context, run ccci.Run) error {
	return s.l.do(func() error { return s.Store.UpdateRun(ctx, run) })
}

func (s lifeStore) FindRun(ctx context.Context, id ccci.RunID) (r ccci.Run, err error) {
	err = s.l.do(func() error { r, err = s.Store.FindRun(ctx, id); return err })
	return r, err
}

func (s lifeStore) FindRuns(ctx context.Context, f ccci.RunFilter) (r []ccci.Run, err error) {
	err = s.l.do(func() error { r, err = s.Store.FindRuns(ctx, f); return err })
	return r, err
}

func (s lifeStore) Cursor(ctx context.Context, forge string, repo ccci.RepoRef) (c ccci.Cursor, err error) {
	err = s.l.do(func() error { c, err = s.Store.Cursor(ctx, forge, repo); return err })
	return c, err
}

func (s lifeStore) SaveCursor(ctx context.Context, forge string, repo ccci.RepoRef, c ccci.Cursor) error {
	return s.l.do(func() error { return s.Store.SaveCursor(ctx, forge, repo, c) })
}

func (s lifeStore) SaveMessage(ctx context.Context, m ccci.Message) error {
	return s.l.do(func() error { return s.Store.SaveMessage(ctx, m) })
}

func (s lifeStore) PendingMessages(ctx context.Context, now time.Time, limit int) (m []ccci.Message, err error) {
	err = s.l.do(func() error { m, err = s.Store.PendingMessages(ctx, now, limit); return err })
	return m, err
}

func (s lifeStore) MarkSent(ctx context.Context, key string, version int, posted ccci.CommentID) error {
	return s.l.do(func() error { return s.Store.MarkSent(ctx, key, version, posted) })
}

func (s lifeStore) MarkFailed(ctx context.Context, key string, at time.Time, cause string) error {
	return s.l.do(func() error { return s.Store.MarkFailed(ctx, key, at, cause) })
}

type lifeBlobs struct {
	ccci.BlobReader
	l *life
}

func (b lifeBlobs) Get(ctx context.Context, key string) (r io.ReadCloser, i ccci.BlobInfo, err error) {
	err = b.l.do(func() error { r, i, err = b.BlobReader.Get(ctx, key); return err })
	return r, i, err
}

type lifeLocker struct {
	ccci.Locker
	l *life
}

func (k lifeLocker) Acquire(ctx context.Context, key string, ttl time.Duration) (ccci.Lease, error) {
	if k.l.died() {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	lease, err := k.Locker.Acquire(ctx, key, ttl)
	k.l.mu.Lock()
	defer k.l.mu.Unlock()
	k.l.lease = lease
	return lease, err
}
