package bridge_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// engine is the world as a bridge sees it through ccci.Engine.
type engine world

func (e *engine) Start(ctx context.Context, job ccci.Job) (ccci.BuildRef, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	// An attempt that is done makes room for the next one.
	if b := e.builds[job.RunID]; b == nil || b.State == ccci.BuildDone && b.Attempt < job.Attempt {
		e.builds[job.RunID] = &build{job: job, cancelled: make(chan struct{}),
			Build: ccci.Build{Ref: ccci.BuildRef(job.RunID), RunID: job.RunID, State: ccci.BuildQueued, Attempt: max(job.Attempt, 1), Created: time.Now()}}
		e.order = append(e.order, job.RunID)
		e.work <- job.RunID
	}
	return ccci.BuildRef(job.RunID), nil
}

func (e *engine) Status(ctx context.Context, ref ccci.BuildRef) (ccci.Build, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if b := e.builds[ccci.RunID(ref)]; b != nil {
		return b.Build, nil
	}
	return ccci.Build{}, ccci.ErrNotFound
}

func (e *engine) Cancel(ctx context.Context, ref ccci.BuildRef) error {
	defer time.Sleep(time.Millisecond) // long enough for the next build to start
	e.mu.Lock()
	defer e.mu.Unlock()
	b := e.builds[ccci.RunID(ref)]
	if b == nil || b.State == ccci.BuildDone {
		return nil
	}
	select {
	case <-b.cancelled:
		return nil
	default:
	}
	close(b.cancelled)
	if b.State == ccci.BuildQueued {
		b.State, b.Ending, b.Finished = ccci.BuildDone, ccci.EndCancelled, time.Now()
		e.news.Broadcast()
	}
	return nil
}

func (e *engine) Logs(ctx context.Context, ref ccci.BuildRef, offset int64) (io.ReadCloser, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	b := e.builds[ccci.RunID(ref)]
	if b == nil {
		return nil, ccci.ErrNotFound
	}
	stop := context.AfterFunc(ctx, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.news.Broadcast()
	})
	return &logReader{e: e, b: b, ctx: ctx, at: int(offset), stop: stop}, nil
}

type logReader struct {
	e    *engine
	b    *build
	ctx  context.Context
	at   int
	stop func() bool
}

func (r *logReader) Read(p []byte) (int, error) {
	r.e.mu.Lock()
	defer r.e.mu.Unlock()
	for {
		if err := r.ctx.Err(); err != nil {
			return 0, err
		}
		if r.at < r.b.log.Len() {
			n := copy(p, r.b.log.Bytes()[r.at:])
			r.at += n
			return n, nil
		}
		if r.b.State == ccci.BuildDone {
			return 0, io.EOF
		}
		r.e.news.Wait()
	}
}

func (r *logReader) Close() error { r.stop(); return nil }

type blobs world

func (b *blobs) Get(ctx context.Context, key string) (io.ReadCloser, ccci.BlobInfo, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	data, ok := b.blobs[key]
	if !ok {
		return nil, ccci.BlobInfo{}, ccci.ErrNotFound
	}
	return io.NopCloser(bytes.NewReader(data)), ccci.BlobInfo{Key: key, Size: int64(len(data))}, nil
}

func (b *blobs) List(context.Context, string) ([]ccci.BlobInfo, error) {
	return nil, errors.New("unused")
}

type bus world

func (b *bus) Publish(ctx context.Context, topic, message string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if topic == ccci.TopicForge {
		for _, s := range b.subs {
			select {
			case s <- message:
			default:
			}
		}
	}
	return nil
}

func (b *bus) Subscribe(ctx context.Context, topic string) (<-chan string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := make(chan string, 16)
	b.subs = append(b.subs, s)
	context.AfterFunc(ctx, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.subs = slices.DeleteFunc(b.subs, func(o chan string) bool { return o == s })
		close(s)
	})
	return s, nil
}

type locker world

type lease struct {
	l      *locker
	ctx    context.Context
	cancel context.CancelCauseFunc
	once   sync.Once
}

func (l *locker) Acquire(ctx context.Context, key string, ttl time.Duration) (ccci.Lease, error) {
	select {
	case l.lease <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	own, cancel := context.WithCancelCause(context.Background())
	return &lease{l: l, ctx: own, cancel: cancel}, nil
}

func (l *lease) Context() context.Context { return l.ctx }
func (l *lease) Fence() uint64            { return 1 }
func (l *lease) Release() error {
	l.once.Do(func() { l.cancel(nil); <-l.l.lease })
	return nil
}
