package localengine

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// notifier tells log readers that a file has grown, whoever wrote to it.
type notifier struct {
	file *os.File // the inotify instance

	mu    sync.Mutex
	files map[int32]*watched
	paths map[string]*watched
	ended chan struct{}
}

type watched struct {
	id      int32
	path    string
	readers int
	grown   chan struct{} // closed at the next write, then replaced
}

func newNotifier() (*notifier, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watching files: %w", err)
	}
	n := &notifier{
		file:  os.NewFile(uintptr(fd), "inotify"),
		files: map[int32]*watched{}, paths: map[string]*watched{}, ended: make(chan struct{}),
	}
	go n.dispatch()
	return n, nil
}

func (n *notifier) close() error {
	err := n.file.Close()
	<-n.ended
	return err
}

func (n *notifier) dispatch() {
	defer close(n.ended)
	buf := make([]byte, 64<<10)
	for {
		size, err := n.file.Read(buf)
		if err != nil {
			return // closed
		}
		n.mu.Lock()
		for at := 0; at+unix.SizeofInotifyEvent <= size; {
			event := (*unix.InotifyEvent)(unsafe.Pointer(&buf[at]))
			at += unix.SizeofInotifyEvent + int(event.Len)
			if event.Mask&unix.IN_Q_OVERFLOW != 0 { // events were dropped: everybody looks
				for _, w := range n.files {
					w.signal()
				}
			} else if w := n.files[event.Wd]; w != nil {
				w.signal()
			}
		}
		n.mu.Unlock()
	}
}

func (w *watched) signal() {
	close(w.grown)
	w.grown = make(chan struct{})
}

// watch begins to watch path. Several readers share one kernel watch.
func (n *notifier) watch(path string) (*watched, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if w := n.paths[path]; w != nil {
		w.readers++
		return w, nil
	}
	conn, err := n.file.SyscallConn()
	if err != nil {
		return nil, err
	}
	var id int
	if cerr := conn.Control(func(fd uintptr) { id, err = unix.InotifyAddWatch(int(fd), path, unix.IN_MODIFY) }); cerr != nil {
		return nil, cerr
	}
	if err != nil {
		return nil, fmt.Errorf("watching %s: %w", path, err)
	}
	w := &watched{id: int32(id), path: path, readers: 1, grown: make(chan struct{})}
	n.files[w.id], n.paths[path] = w, w
	return w, nil
}

func (n *notifier) unwatch(w *watched) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if w.readers--; w.readers > 0 {
		return
	}
	delete(n.files, w.id)
	delete(n.paths, w.path)
	if conn, err := n.file.SyscallConn(); err == nil { // else closed, and the watch with it
		conn.Control(func(fd uintptr) { unix.InotifyRmWatch(int(fd), uint32(w.id)) })
	}
}

// next returns a channel that is closed at a write after this call.
func (n *notifier) next(w *watched) <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return w.grown
}

// logReader follows a log file.
type logReader struct {
	ctx    context.Context
	notify *notifier
	file   *os.File
	watch  *watched
	offset int64
	done   <-chan struct{}

	once   sync.Once
	closed chan struct{}
}

// openLog opens the log in a build's directory. done is closed when no more comes.
func (n *notifier) openLog(ctx context.Context, dir string, offset int64, done <-chan struct{}) (*logReader, error) {
	path := filepath.Join(dir, logFile)
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("opening the log of %s: %w", filepath.Base(dir), err)
	}
	w, err := n.watch(path)
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("following the log of %s: %w", filepath.Base(dir), err)
	}
	return &logReader{ctx: ctx, notify: n, file: file, watch: w, offset: offset, done: done, closed: make(chan struct{})}, nil
}

// Read implements [io.Reader] as [ccci.Engine.Logs] says.
func (r *logReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		if err := r.ctx.Err(); err != nil {
			return 0, err
		}
		// Both are looked at before the file is: what is written in between is
		// either read now or wakes the next wait.
		grown := r.notify.next(r.watch)
		ended := false
		select {
		case <-r.done:
			ended = true
		default:
		}
		n, err := r.file.ReadAt(p, r.offset)
		if n > 0 {
			r.offset += int64(n)
			return n, nil
		}
		if err != nil && err != io.EOF {
			return 0, err
		}
		if ended {
			return 0, io.EOF
		}
		select {
		case <-grown:
		case <-r.done:
		case <-r.ctx.Done():
		case <-r.closed:
			return 0, os.ErrClosed
		case <-r.notify.ended:
			return 0, os.ErrClosed
		}
	}
}

// Close ends the reading, also one that waits.
func (r *logReader) Close() error {
	err := os.ErrClosed
	r.once.Do(func() {
		close(r.closed)
		r.notify.unwatch(r.watch)
		err = r.file.Close()
	})
	return err
}
