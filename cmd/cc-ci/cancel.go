package main

import (
	"fmt"
	"os"
	"os/user"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/store/sqlstore"
)

type cancelCmd struct {
	Of string `arg:"" name:"run" help:"Id of the run, the beginning of it, or the address of its page."`
}

// Run records the request in the database, as the comment !cancel does. The server ends the run: it
// tears down, proves it and answers on the forge. Who may write the database may cancel.
func (c *cancelCmd) Run(a *app) error {
	r, run, err := a.openRun(c.Of)
	if err != nil {
		return err
	}
	defer r.Close()
	if run.Status.Terminal() {
		return ccci.Errorf(ccci.CodeConflict, "run %s has ended: %s", run.ID, run.Word()).WithHint("cc-ci queue lists the runs that have not ended")
	}
	if serves, err := serving(r.cfg); err != nil {
		return err
	} else if !serves {
		return notServing(a, r.cfg)
	}
	store, err := sqlstore.Open(a.ctx, storePath(r.cfg)) // its schema is that of this program: openRecords has read it
	if err != nil {
		return err
	}
	defer store.Close()
	if run, err = store.CancelRun(a.ctx, run.ID, operator()); err != nil {
		return err
	}
	if run.Status.Terminal() {
		fmt.Fprintf(a.stdout, "run %s has just ended: %s\n", run.ID, run.Word())
		return nil
	}
	fmt.Fprintf(a.stdout, "run %s is being cancelled by %s; it ends when everything that it made is removed\n", run.ID, run.CancelledBy)
	if page := r.page(run.ID); page != "" {
		fmt.Fprintln(a.stdout, page)
	}
	return nil
}

// operator names the person at the terminal, who may be root in another's name.
func operator() string {
	if name := os.Getenv("SUDO_USER"); name != "" {
		return "operator " + name
	}
	if u, err := user.Current(); err == nil {
		return "operator " + u.Username
	}
	return fmt.Sprintf("operator %d", os.Getuid())
}
