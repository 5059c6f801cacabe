package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/secretfile/inventory"
)

// secretsEditCmd lets a person change the file in plain text, which exists in memory
// where there is a file system in memory.
type secretsEditCmd struct{}

// Help is the end of the command's help text.
func (secretsEditCmd) Help() string {
	return `The editor is the program in $EDITOR, with its arguments separated by spaces: EDITOR='code --wait'. It must stay until the text is
saved. Nothing is written when nothing was changed.`
}

func (secretsEditCmd) Run(a *app, s *secretsCmd) (err error) {
	o, err := s.open()
	if err != nil {
		return err
	}
	before, err := o.Plain()
	if err != nil {
		return err
	}
	editor, err := findEditor()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(a.ctx, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	interrupts := make(chan os.Signal, 1) // Ctrl-C is for the editor
	signal.Notify(interrupts, syscall.SIGINT)
	defer signal.Stop(interrupts)

	dir, err := privateFolder(a.stderr)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, wipe(dir)) }()
	file := filepath.Join(dir, inventory.FileName)
	if err := os.WriteFile(file, []byte(before.Reveal()), 0o600); err != nil {
		return fmt.Errorf("editing secrets: %w", err)
	}
	for {
		after, err := runEditor(ctx, a, editor, file)
		if err != nil {
			return err
		}
		if string(after) == before.Reveal() {
			fmt.Fprintf(a.stdout, "nothing was changed in %s\n", o.path)
			return nil
		}
		mistake := o.Replace(after)
		if mistake == nil {
			mistake = o.save()
		}
		switch {
		case mistake == nil:
			fmt.Fprintf(a.stdout, "%s is re-encrypted\n%s\n", o.path, thenCommit)
			return nil
		case ccci.CodeOf(mistake) != ccci.CodeInvalid || !term.IsTerminal(int(os.Stdin.Fd())):
			return mistake
		case !again(ctx, a, mistake, interrupts):
			fmt.Fprintln(a.stderr, "nothing was changed")
			if ctx.Err() != nil {
				return codeError(exitTerminate)
			}
			return codeError(exitUsage)
		}
	}
}

// again asks the person at the terminal whether to mend a mistake.
func again(ctx context.Context, a *app, mistake error, interrupts <-chan os.Signal) bool {
	select {
	case <-interrupts: // it was the editor's
	default:
	}
	fmt.Fprintf(a.stderr, "cc-ci: %v\nhint: %s\nEnter opens the editor again, q gives the change up: ", mistake, ccci.HintOf(mistake))
	answer := make(chan bool, 1)
	go func() {
		line, err := bufio.NewReader(os.Stdin).ReadString('\n')
		answer <- err == nil && !strings.HasPrefix(strings.TrimSpace(line), "q")
	}()
	select {
	case yes := <-answer:
		return yes
	case <-interrupts:
	case <-ctx.Done():
	}
	fmt.Fprintln(a.stderr)
	return false
}

// findEditor returns the editor's program and arguments. No shell reads them.
func findEditor() ([]string, error) {
	for _, name := range []string{"EDITOR", "VISUAL"} {
		if words := strings.Fields(os.Getenv(name)); len(words) > 0 {
			if _, err := exec.LookPath(words[0]); err != nil {
				return nil, ccci.Errorf(ccci.CodeInvalid, "$%s names %s, which is not there: %w", name, words[0], err).WithHint("set it to an editor that is installed")
			}
			return words, nil
		}
	}
	for _, name := range []string{"editor", "nano", "vim", "vi"} {
		if path, err := exec.LookPath(name); err == nil {
			return []string{path}, nil
		}
	}
	return nil, ccci.Errorf(ccci.CodeInvalid, "there is no editor").WithHint("install one, and name it in $EDITOR")
}

// runEditor returns what is in the file when the editor has ended.
func runEditor(ctx context.Context, a *app, editor []string, file string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, editor[0], append(editor[1:len(editor):len(editor)], file)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, a.stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 2 * time.Second
	err := cmd.Run()
	if ctx.Err() != nil {
		return nil, codeError(exitTerminate)
	}
	if err != nil {
		return nil, ccci.Errorf(ccci.CodeInvalid, "the editor %s ended with an error, so nothing was changed: %w", editor[0], err).WithHint("run it by hand to see why, or set EDITOR to another")
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, ccci.Errorf(ccci.CodeInvalid, "the editor removed the text, so nothing was changed: %w", err).WithHint("save it under the name that it has")
	}
	return text, nil
}

// privateFolder makes a folder for plain text, in memory where that is possible.
func privateFolder(stderr io.Writer) (string, error) {
	for _, parent := range []string{os.Getenv("XDG_RUNTIME_DIR"), "/dev/shm", "/run"} {
		var st unix.Statfs_t
		if parent == "" || unix.Statfs(parent, &st) != nil || int64(st.Type) != unix.TMPFS_MAGIC && int64(st.Type) != unix.RAMFS_MAGIC {
			continue
		}
		if dir, err := os.MkdirTemp(parent, "cc-ci-secrets-"); err == nil {
			return dir, nil
		}
	}
	dir, err := os.MkdirTemp("", "cc-ci-secrets-")
	if err != nil {
		return "", ccci.Errorf(ccci.CodeInfra, "making a folder for the plain text: %w", err).WithHint("the temporary folder must be writable; $TMPDIR names another")
	}
	fmt.Fprintf(stderr, "cc-ci: there is no file system in memory here; the plain text is on disk in %s until the editor ends\n", dir)
	return dir, nil
}

// wipe overwrites and removes all files of a folder, an editor's copies among them.
func wipe(dir string) error {
	err := filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		f, err := os.OpenFile(file, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return err
		}
		_, err = f.Write(make([]byte, info.Size()))
		return errors.Join(err, f.Sync())
	})
	if err := errors.Join(err, os.RemoveAll(dir)); err != nil {
		return ccci.Errorf(ccci.CodeInfra, "removing the plain text in %s: %w", dir, err).WithHint("remove it by hand now")
	}
	return nil
}

// readValue reads a new value from a file or standard input. A line break at the end
// of a single line is not part of it.
func readValue(file string) (ccci.Secret, error) {
	const limit = 1 << 20
	in, err := os.Stdin, error(nil)
	if file != "-" {
		if in, err = os.Open(file); err != nil {
			return ccci.Secret{}, ccci.Errorf(ccci.CodeInvalid, "reading a value: %w", err).WithHint("write KEY=FILE, with a file that is there; - stands for standard input")
		}
		defer in.Close()
	}
	text, err := io.ReadAll(io.LimitReader(in, limit+1))
	if err == nil && len(text) > limit {
		err = fmt.Errorf("it has more than %d bytes", limit)
	}
	value := strings.TrimSuffix(string(text), "\n")
	if strings.Contains(value, "\n") {
		value += "\n"
	}
	if err == nil && strings.TrimSpace(value) == "" {
		err = errors.New("it is empty")
	}
	if err != nil {
		return ccci.Secret{}, ccci.Errorf(ccci.CodeInvalid, "reading a value from %s: %w", file, err).WithHint("the file must hold the value and nothing else")
	}
	return ccci.NewSecret(value), nil
}
