package bridge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/report"
)

// decision is what became of a command, for the log and for the person.
type decision struct {
	outcome string // accepted, answered, refused, ignored, known
	reason  string
	reply   string // Markdown; "" for silence
	// replyKey makes an answer that need not be repeated one answer: "" stands
	// for one per comment.
	replyKey string
	// uncounted is set for an answer in place of a run. Like a run's own comment it is
	// always given.
	uncounted bool
	isRun     bool // it is a run, which remembers it
	// label is the reason as one of a few words, for figures.
	label string
}

// handle decides one comment. An error means that nothing was decided and that
// it must be handled again; nil means that all that follows is durable.
func (b *Bridge) handle(ctx context.Context, repo Repo, self ccci.User, c ccci.Comment) error {
	parsed := Parse(c.Body)
	if parsed.Kind == Ignore {
		return nil
	}
	known, err := b.isSettled(ctx, repo.Ref, c.ID)
	if known || err != nil {
		return err
	}
	d, err := b.decide(ctx, repo, self, c, parsed)
	switch {
	case errors.Is(err, ccci.ErrNotFound):
		d = decision{outcome: "ignored", reason: "the pull request is gone", label: "gone"}
	case err != nil:
		return err
	}
	if d.reply != "" {
		if err := b.reply(ctx, repo, parsed.Command.Verb, c, d); err != nil {
			return err
		}
	}
	if !d.isRun {
		if err := b.settleComment(ctx, repo.Ref, c.ID); err != nil {
			return err
		}
	}
	if d.outcome != "known" {
		b.cfg.Observer.Decided(b.name(), parsed.Command.Verb, d.outcome, d.label)
	}
	level := slog.LevelInfo
	if d.outcome == "known" {
		level = slog.LevelDebug // forges repeat themselves
	}
	b.log.Log(ctx, level, "comment decided", "comment", c.ID, "pr", c.PR, "author", c.Author.Name, "author_id", c.Author.ID,
		"command", parsed.Command.Verb, "decision", d.outcome, "reason", d.reason)
	return nil
}

func (b *Bridge) decide(ctx context.Context, repo Repo, self ccci.User, c ccci.Comment, p Parsed) (decision, error) {
	verb := p.Command.Verb
	switch {
	case c.Author.ID == self.ID:
		return decision{outcome: "ignored", reason: "our own comment", label: "own"}, nil
	case c.Author.ID == "":
		return decision{outcome: "ignored", reason: "the forge does not say who wrote it", label: "nobody"}, nil
	case c.Edited:
		return decision{outcome: "ignored", reason: "edited comments are never commands", label: "edited"}, nil
	}
	if p.Kind == IsNear {
		return b.decideNear(ctx, repo, c, p)
	}
	// A wish that became a run stays that run, whatever has changed since (N2).
	if verb == VerbTest || verb == VerbRetest {
		run, found, err := b.runOf(ctx, c.PR, b.keyOf(c))
		if err != nil {
			return decision{}, err
		}
		if found {
			if !run.Status.Terminal() {
				b.take(ctx, run, "")
				if err := b.supersede(ctx, c.PR); err != nil {
					return decision{}, err
				}
			}
			return decision{outcome: "known", reason: "it is run " + string(run.ID) + " already", isRun: true}, nil
		}
	}
	if repo.Recipe == "" && verb != VerbHelp {
		return notEnrolledHere(c), nil
	}
	ok, why, err := b.allowed(ctx, repo, verb, c.Author)
	if err != nil {
		return decision{}, err
	}
	if !ok {
		return decision{outcome: "refused", reason: why, label: "not-allowed", replyKey: fmt.Sprintf("refused/%s/%s/%s", c.PR, c.Author.ID, verb),
			reply: fmt.Sprintf("%s was not started: %s. Someone with that right can write the same comment.", report.Code(string(verb)), why)}, nil
	}
	if p.Kind == IsReply {
		return decision{outcome: "answered", reason: "not understood", label: "not-understood", reply: p.Reply}, nil
	}
	switch verb {
	case VerbHelp:
		return decision{outcome: "answered", reason: why, reply: Help()}, nil
	case VerbStatus:
		reply, err := b.statusReply(ctx, c.PR)
		return decision{outcome: "answered", reason: why, reply: reply}, err
	case VerbCancel:
		reply, err := b.cancelAll(ctx, c)
		return decision{outcome: "accepted", reason: why, reply: reply}, err
	}
	return b.accept(ctx, repo, c, p.Command, why)
}

// decideNear answers a near miss. It is answered where the command itself would be allowed,
// and is passed over otherwise: it may be talk among people.
func (b *Bridge) decideNear(ctx context.Context, repo Repo, c ccci.Comment, p Parsed) (decision, error) {
	ok, why, err := b.allowed(ctx, repo, p.Command.Verb, c.Author)
	switch {
	case err != nil:
		return decision{}, err
	case !ok:
		return decision{outcome: "ignored", reason: "no command, and " + why, label: "not-allowed"}, nil
	case repo.Recipe == "" && p.Command.Verb != VerbHelp:
		return notEnrolledHere(c), nil
	}
	return decision{outcome: "answered", reason: "near a command, and none", label: "near", reply: p.Reply}, nil
}

// notEnrolledHere is the one answer of a pull request's repository that is not enrolled (U15).
func notEnrolledHere(c ccci.Comment) decision {
	return decision{outcome: "refused", reason: "the repository is not enrolled", label: "not-enrolled", replyKey: "not-enrolled/" + c.PR.String(),
		reply: "This repository is not enrolled in cc-ci, so nothing was started. An operator enrols it by adding `tests/<recipe>/` to cc-ci " +
			"and naming the repository in its configuration."}
}

// allowed judges a person by id. On doubt there is an error and no yes (A7).
func (b *Bridge) allowed(ctx context.Context, repo Repo, verb Verb, user ccci.User) (bool, string, error) {
	role := b.cfg.Roles[verb]
	switch {
	case role.Who == Anyone:
		return true, "anyone may", nil
	case slices.Contains(role.Users, user.ID):
		return true, "listed by id", nil
	case role.Who == Listed:
		return false, "only listed users may", nil
	}
	if repo.Org == "" {
		return false, "only members may, and no organisation is named", nil
	}
	now := b.cfg.Now()
	no := "only members of " + report.Code(repo.Org) + " may"
	if b.noes.known(repo.Org, user.ID, now) {
		return false, no, nil
	}
	member, err := b.cfg.Forge.Member(ctx, repo.Org, user)
	if err != nil {
		return false, "", fmt.Errorf("asking whether %s is a member of %s: %w", user.Name, repo.Org, notGone(err))
	}
	if !member {
		b.noes.add(repo.Org, user.ID, now)
		return false, no, nil
	}
	return true, "member of " + repo.Org, nil
}

// notGone keeps an error about something else, as an organisation, from being
// read as one about the pull request or the repository that is looked at.
func notGone(err error) error {
	if errors.Is(err, ccci.ErrNotFound) {
		return errors.New(err.Error())
	}
	return err
}

// accept pins the commit, claims the wish and hands it to the engine.
func (b *Bridge) accept(ctx context.Context, repo Repo, c ccci.Comment, cmd Command, why string) (decision, error) {
	pr, err := b.cfg.Forge.PullRequest(ctx, c.PR)
	if err != nil {
		return decision{}, fmt.Errorf("reading %s: %w", c.PR, err)
	}
	if !pr.Open {
		return decision{outcome: "refused", reason: "the pull request is closed", label: "closed",
			reply: "This pull request is closed, so nothing was started. Reopen it and comment again."}, nil
	}
	commit, problem, err := b.pin(ctx, pr, c, cmd)
	if err != nil {
		return decision{}, err
	}
	if problem != "" {
		return decision{outcome: "refused", reason: "no commit was agreed to", label: "head", reply: problem}, nil
	}
	options := cmd.Options
	if cmd.Verb == VerbRetest {
		if options, problem, err = b.failedOf(ctx, c.PR, commit); err != nil {
			return decision{}, err
		}
		if problem != "" {
			return decision{outcome: "answered", reason: "nothing to repeat", label: "nothing-to-repeat", reply: problem}, nil
		}
	}
	if options.From != "" {
		if problem, err = b.wrongBase(ctx, repo.Recipe, pr, commit, options); err != nil {
			return decision{}, err
		}
		if problem != "" {
			return decision{outcome: "answered", reason: "no upgrade can start from what from= names", label: "no-base", reply: problem}, nil
		}
	}
	if options.Quick {
		if problem, err = b.nothingQuick(ctx, repo.Recipe, commit); err != nil {
			return decision{}, err
		}
		if problem != "" {
			return decision{outcome: "answered", reason: "there is no canonical", label: "no-canonical", reply: problem}, nil
		}
	}
	if answer, err := b.underWay(ctx, c, commit, options); err != nil || answer != "" {
		return decision{outcome: "answered", reason: "the same is under way", label: "under-way", reply: answer, uncounted: true}, err
	}
	run, err := b.claim(ctx, ccci.Run{
		Key: b.keyOf(c), Recipe: repo.Recipe, PR: c.PR, PullURL: pr.URL, Commit: commit, CloneURL: pr.CloneURL,
		Head: pr.Head, Branch: ownBranch(pr),
		RequestedBy: c.Author, Comment: c.ID, Options: options, Asked: c.Created,
		Status: ccci.StatusQueued, Attempt: 1,
	})
	if err != nil {
		return decision{}, err
	}
	b.take(ctx, run, pr.Base)
	if err := b.supersede(ctx, c.PR); err != nil {
		return decision{}, err
	}
	return decision{outcome: "accepted", reason: fmt.Sprintf("%s; run %s at %s", why, run.ID, commit), isRun: true}, nil
}

// ownBranch is a pull request's branch where that is one of its own repository. A fork can give
// its branches any name.
func ownBranch(pr ccci.PullRequest) string {
	if pr.Fork {
		return ""
	}
	return pr.Branch
}

// underWay answers a comment that asks for what was under way when it was written: the
// same commit with the same options. It is not queued a second time. The answer does not depend
// on when the comment is read, so that one that is read again starts nothing either (N2).
func (b *Bridge) underWay(ctx context.Context, c ccci.Comment, commit ccci.Commit, options ccci.Options) (string, error) {
	runs, err := b.runsOf(ctx, c.PR)
	if err != nil {
		return "", err
	}
	written := c.Created.Add(time.Second) // forges leave out what is less than a second
	i := slices.IndexFunc(runs, func(r ccci.Run) bool {
		return r.Commit == commit && r.Options.Restriction() == options.Restriction() && r.CancelledBy == "" &&
			(!r.Status.Terminal() || r.Finished.After(written))
	})
	if i < 0 {
		return "", nil
	}
	run := runs[i]
	if run.Status.Terminal() {
		return fmt.Sprintf("The same test of this commit was under way when you asked, so it was not queued a second time. %s has ended: %s. "+
			"Its own comment has the details.", b.link(run), run.Status), nil
	}
	_, slots, err := b.unfinishedForecast(ctx)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("The same test of this commit is under way, so it was not queued a second time. It is %s. "+
		"Its own comment will have the verdict.", b.describe(run, slots[run.ID])), nil
}

func (b *Bridge) keyOf(c ccci.Comment) string { return ccci.RunKey(b.name(), c.ID, 0) }

// claim makes the wish a run. From here on it is never lost and never doubled.
func (b *Bridge) claim(ctx context.Context, run ccci.Run) (ccci.Run, error) {
	var last error
	for range 3 { // a second one only when two ids of one second collide
		now := b.cfg.Now()
		id, err := ccci.NewRunID(now, b.cfg.Rand)
		if err != nil {
			return ccci.Run{}, err
		}
		run.ID, run.Created = id, now
		stored, created, err := b.cfg.Store.ClaimRun(ctx, run)
		if err == nil {
			if created {
				b.sent.born(b.messageKey(commentKey(stored.ID)))
				b.sent.awaited(b.messageKey(commentKey(stored.ID)), stored.Asked)
				b.publish(ctx, stored.ID)
			}
			return stored, nil
		}
		last = err
	}
	return ccci.Run{}, fmt.Errorf("claiming a run for comment %s: %w", run.Comment, last)
}

// pin finds the one commit that the commenter agreed to (N1, A8): the head as
// it was when the comment was written, provided it still is; or a commit that
// the comment itself names in full and that is, or then was, the head. An
// abbreviation is refused, because whoever can push can make a second commit
// that shares its digits. problem is Markdown for the commenter.
func (b *Bridge) pin(ctx context.Context, pr ccci.PullRequest, c ccci.Comment, cmd Command) (commit ccci.Commit, problem string, err error) {
	named := ccci.Commit(cmd.SHA)
	if named != "" && named.Valid() && named == pr.Head {
		return named, "", nil
	}
	at, err := b.cfg.Forge.HeadAt(ctx, c.PR, c)
	switch {
	case err != nil && !errors.Is(err, ccci.ErrHeadMoved) && !errors.Is(err, ccci.ErrHeadUnknown):
		return "", "", fmt.Errorf("asking for the head of %s when comment %s was written: %w", c.PR, c.ID, err)
	case named != "" && named.Valid() && named == at && !errors.Is(err, ccci.ErrHeadUnknown):
		return named, "", nil
	case named != "" && !named.Valid() && strings.HasPrefix(string(pr.Head), string(named)):
		return "", "A commit must be named in full, because a few digits can be made to fit another one. Nothing was started. The whole line:" + ready(cmd, pr.Head), nil
	case named != "":
		return "", fmt.Sprintf("%s is not the head of this pull request, and was not when the comment was written. Nothing was started. The head is %s. If that is what you mean:",
			report.Code(short(cmd.SHA)), report.Code(string(pr.Head))) + ready(cmd, pr.Head), nil
	case errors.Is(err, ccci.ErrHeadMoved):
		return "", fmt.Sprintf("This pull request was pushed to after the comment was written: the head was %s and is %s. "+
			"Nothing was started, because the new commit has not been agreed to. When you have looked at it:",
			report.Code(at.Short()), report.Code(pr.Head.Short())) + ready(cmd, pr.Head), nil
	case err != nil:
		return "", "It cannot be proven which commit was the head when the comment was written, so nothing was started. " +
			"When you have looked at the present one:" + ready(cmd, pr.Head), nil
	case !at.Valid():
		return "", "", ccci.Errorf(ccci.CodeInfra, "asking for the head of %s: %q is not a commit", c.PR, at)
	}
	return at, "", nil
}

// nothingQuick says why a quick run of the recipe has nothing to start from, and
// offers the whole suite; "" when there is something (U20).
func (b *Bridge) nothingQuick(ctx context.Context, recipe string, commit ccci.Commit) (string, error) {
	c, err := ccci.ReadCanonical(ctx, b.cfg.Blobs, recipe)
	why := fmt.Sprintf("There is no canonical of %s yet: no version of it has passed the sweep", report.Code(recipe))
	switch {
	case err == nil && c.Kept.Without == "":
		return "", nil
	case err == nil:
		why = fmt.Sprintf("The canonical of %s has no data: %s", report.Code(recipe), report.Text(c.Kept.Without))
	case ccci.CodeOf(err) == ccci.CodeInvalid:
		why = fmt.Sprintf("The canonical of %s cannot be read; the next sweep makes another", report.Code(recipe))
	case !errors.Is(err, ccci.ErrNotFound):
		return "", err
	}
	return why + ". A quick run has nothing to start from, so nothing was started. The whole suite needs none:" + ready(Command{}, commit), nil
}

// maxChoices bounds how many releases an answer lists.
const maxChoices = 8

// wrongBase says why no upgrade can start from the release that from= names, and lists
// those that one can start from, the nearest of them, newest first; "" when it can (U4). What cannot
// be found out now is left to the run.
func (b *Bridge) wrongBase(ctx context.Context, recipe string, pr ccci.PullRequest, commit ccci.Commit, options ccci.Options) (string, error) {
	asking, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	bases, err := b.cfg.Bases(asking, pr.CloneURL, commit)
	if err != nil {
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		b.log.Warn("reading the releases; the run will find out whether from= is right", "pr", pr.Ref, "from", options.From, "error", err)
		return "", nil
	}
	if slices.Contains(bases.Usable, options.From) {
		return "", nil
	}
	why := fmt.Sprintf("%s has no release %s", report.Code(recipe), report.Code(options.From))
	if reason, known := bases.Unusable[options.From]; known {
		why = fmt.Sprintf("No upgrade can start from %s: %s", report.Code(options.From), report.Text(reason))
	}
	options.Retest = ""
	if len(bases.Usable) == 0 {
		options.From = ""
		return why + ". There is no release that an upgrade to this commit can start from. Nothing was started. Without `from=` cc-ci chooses the base itself:" + ready(Command{Options: options}, commit), nil
	}
	choices := byNearness(options.From, bases.Usable)
	nearest := choices[:min(len(choices), maxChoices)]
	options.From = choices[0]
	var names []string
	for _, c := range bases.Usable { // newest first
		if slices.Contains(nearest, c) {
			names = append(names, report.Code(c))
		}
	}
	if n := len(choices) - len(names); n > 0 {
		names = append(names, fmt.Sprintf("%d more", n))
	}
	list := names[len(names)-1]
	if others := names[:len(names)-1]; len(others) > 0 {
		list = strings.Join(others, ", ") + " or " + list
	}
	return fmt.Sprintf("%s. Nothing was started. An upgrade can start from %s. For %s, comment:", why, list, report.Code(options.From)) + ready(Command{Options: options}, commit), nil
}

// ready is a command line to copy.
func ready(cmd Command, head ccci.Commit) string {
	words := []string{string(VerbTest)}
	if restriction := cmd.Options.Restriction(); restriction != "" {
		words = append(words, restriction)
	}
	return "\n\n" + report.Block([]string{strings.Join(append(words, string(head)), " ")})
}

// reply queues an answer to a comment. It is kept and sent like all messages.
func (b *Bridge) reply(ctx context.Context, repo Repo, verb Verb, c ccci.Comment, d decision) error {
	ok, until := true, time.Time{}
	if !d.uncounted {
		ok, until = b.mayReply(ctx, repo, verb, c, d)
	}
	if !ok {
		b.log.Warn("not answering", "comment", c.ID, "pr", c.PR, "author_id", c.Author.ID, "reason", "too many answers within an hour")
		return nil
	}
	key := d.replyKey
	body := d.reply
	if key == "" {
		key = "reply/" + string(c.ID)
		if c.Author.Name != "" {
			body = report.Code(c.Author.Name) + ": " + body
		}
		if !until.IsZero() {
			body += fmt.Sprintf("\n\nThere were %d answers to you on this pull request within an hour, so this is the last one until %s. "+
				"`!testme`, `!retest` and `!cancel` still work, and each run has its own comment.", repliesPerHour, until.UTC().Format("15:04 MST"))
		}
	}
	b.sent.awaited(b.messageKey(key), c.Created)
	if err := b.cfg.Store.SaveMessage(ctx, ccci.Message{Key: b.messageKey(key), Kind: ccci.MessageComment, PR: c.PR, Body: body, Updated: b.cfg.Now()}); err != nil {
		return fmt.Errorf("saving the answer to comment %s: %w", c.ID, err)
	}
	b.nudge()
	return nil
}
