package backup

import "context"

// ahead is a container that is being started for the restore of one volume, beside other work: that
// takes longer than the restore of a small volume.
type ahead struct {
	volume Volume
	done   chan struct{} // closed when id and err are set
	id     string
	err    error
}

// PrepareRestore begins what the next Restore needs first, and returns at once. Restore works without
// it. Its errors are those of Restore, which tries again.
func (b *Backup) PrepareRestore(ctx context.Context) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || !b.opened || len(b.plan.Volumes) == 0 {
		return
	}
	if err := b.startAhead(ctx, b.plan.Volumes[0]); err != nil {
		b.opts.Logger.DebugContext(ctx, "starting a container for the restore", "error", err)
	}
}

// startAhead begins to start the container for a volume, unless one is begun already. The caller's
// end does not end it: whoever takes or drops the container waits for it.
func (b *Backup) startAhead(ctx context.Context, v Volume) error {
	if b.ahead != nil {
		return nil
	}
	repo, err := b.repositoryMount(ctx)
	if err != nil {
		return err
	}
	a := &ahead{volume: v, done: make(chan struct{})}
	b.ahead = a
	go func() {
		defer close(a.done)
		asked, cancel := lasting(ctx)
		defer cancel()
		a.id, a.err = b.run(asked, forRestore, repo, v)
	}()
	return nil
}

// turnTo replaces the container by the one that can write into v alone.
func (b *Backup) turnTo(ctx context.Context, v Volume) error {
	if b.ahead != nil && b.ahead.volume.Name != v.Name {
		b.dropAhead(ctx)
	}
	if err := b.dropContainer(ctx); err != nil {
		return err
	}
	if a := b.ahead; a != nil {
		<-a.done
		b.ahead = nil
		if a.err == nil {
			b.container, b.use = a.id, forRestore
			return nil
		}
	}
	return b.start(ctx, forRestore, v)
}

// dropAhead removes the container that was begun. One that stays is removed with the run, by its label.
func (b *Backup) dropAhead(ctx context.Context) {
	if b.ahead == nil {
		return
	}
	<-b.ahead.done
	if err := b.remove(ctx, b.ahead.id); err != nil {
		b.opts.Logger.WarnContext(ctx, "removing a container of restic", "error", err)
	}
	b.ahead = nil
}
