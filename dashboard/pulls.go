package dashboard

import (
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// commentLimit is the size of a comment in bytes.
const commentLimit = 64 << 10

type pullsBody struct {
	Repos []repoView
}

type repoView struct {
	Ref   ccci.RepoRef
	Pulls []pullRow
}

type pullRow struct {
	ccci.PullRequest
	URL  string
	Last *ccci.Run // the newest run of it
}

type pullBody struct {
	Pull     ccci.PullRequest
	Thread   []commentView
	Statuses []ccci.CommitStatus
	Runs     []ccci.Run
	User     ccci.User
	Form     commentForm
}

type commentView struct {
	ccci.Comment
	Anchor string
	HTML   template.HTML
	Ours   bool // written by whoever writes here
}

// commentForm is the comment box. Problem says why what was sent was not
// written; the text stays in the box.
type commentForm struct {
	Action  string
	Token   string
	Text    string
	Problem string
}

func pullURL(pr ccci.PRRef) string {
	return "/pulls/" + url.PathEscape(pr.Repo.Owner) + "/" + url.PathEscape(pr.Repo.Name) + "/" + strconv.Itoa(pr.Number)
}

// pulls lists the pull requests of the local forge.
func (d *Dashboard) pulls(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	repos, err := d.cfg.Forge.Repos(ctx)
	if err != nil {
		return fmt.Errorf("listing the local repositories: %w", err)
	}
	var b pullsBody
	for _, ref := range repos {
		found, err := d.cfg.Forge.PullRequests(ctx, ref)
		if err != nil {
			return fmt.Errorf("listing the pull requests of %s: %w", ref, err)
		}
		view := repoView{Ref: ref}
		for _, pr := range found {
			row := pullRow{PullRequest: pr, URL: pullURL(pr.Ref)}
			runs, err := d.cfg.Store.FindRuns(ctx, ccci.RunFilter{PR: pr.Ref, Limit: 1})
			if err != nil {
				return fmt.Errorf("reading the runs of %s: %w", pr.Ref, err)
			}
			if len(runs) > 0 {
				row.Last = &runs[0]
			}
			view.Pulls = append(view.Pulls, row)
		}
		slices.SortStableFunc(view.Pulls, func(a, b pullRow) int {
			if a.Open != b.Open {
				return map[bool]int{true: -1, false: 1}[a.Open]
			}
			return b.Ref.Number - a.Ref.Number
		})
		b.Repos = append(b.Repos, view)
	}
	return d.render(w, r, http.StatusOK, "pulls", frame{Title: "Pull requests", Nav: "pulls", Live: "/events", Refresh: 30, Body: b})
}

func pullRef(r *http.Request) (ccci.PRRef, error) {
	n, err := strconv.Atoi(r.PathValue("number"))
	ref := ccci.PRRef{Repo: ccci.RepoRef{Owner: r.PathValue("owner"), Name: r.PathValue("name")}, Number: n}
	if err != nil || n < 1 || !validName(ref.Repo.Owner) || !validName(ref.Repo.Name) {
		return ref, ccci.Errorf(ccci.CodeNotFound, "%q is not a pull request", strings.TrimPrefix(r.URL.Path, "/pulls/")).
			WithHint("The list of pull requests has them all.")
	}
	return ref, nil
}

// pull shows one pull request with its thread and a box to comment.
func (d *Dashboard) pull(w http.ResponseWriter, r *http.Request) error {
	ref, err := pullRef(r)
	if err != nil {
		return err
	}
	return d.showPull(w, r, ref, http.StatusOK, commentForm{})
}

func (d *Dashboard) showPull(w http.ResponseWriter, r *http.Request, ref ccci.PRRef, code int, form commentForm) error {
	ctx := r.Context()
	pr, err := d.cfg.Forge.PullRequest(ctx, ref)
	if err != nil {
		return fmt.Errorf("reading %s: %w", ref, err)
	}
	thread, err := d.cfg.Forge.ThreadOf(ctx, ref)
	if err != nil {
		return fmt.Errorf("reading the comments of %s: %w", ref, err)
	}
	statuses, err := d.cfg.Forge.Statuses(ctx, ref.Repo, pr.Head)
	if err != nil {
		return fmt.Errorf("reading the statuses of %s: %w", pr.Head.Short(), err)
	}
	runs, err := d.cfg.Store.FindRuns(ctx, ccci.RunFilter{PR: ref, Limit: 8})
	if err != nil {
		return fmt.Errorf("reading the runs of %s: %w", ref, err)
	}
	b := pullBody{Pull: pr, Statuses: slices.Clone(statuses), Runs: runs, User: d.cfg.User, Form: form}
	for i := range b.Statuses {
		b.Statuses[i].URL = d.ownLink(b.Statuses[i].URL)
	}
	for _, c := range thread {
		rendered, err := d.markdown(c.Body)
		if err != nil {
			return fmt.Errorf("rendering comment %s: %w", c.ID, err)
		}
		b.Thread = append(b.Thread, commentView{Comment: c, Anchor: "comment-" + string(c.ID), HTML: rendered, Ours: c.Author.ID == d.cfg.User.ID})
	}
	if b.User.ID != "" {
		b.Form.Action = pullURL(ref) + "/comments"
		if b.Form.Token, err = d.tokens.issue(w, r); err != nil {
			return err
		}
	}
	w.Header().Set("Cache-Control", "no-store") // it holds a token
	return d.render(w, r, code, "pull", frame{Title: fmt.Sprintf("%s #%d: %s", ref.Repo.Name, ref.Number, pr.Title), Nav: "pulls", Live: "/events", Body: b})
}

// comment writes a comment on a pull request.
func (d *Dashboard) comment(w http.ResponseWriter, r *http.Request) error {
	ref, err := pullRef(r)
	if err != nil {
		return err
	}
	if d.cfg.User.ID == "" {
		return ccci.Errorf(ccci.CodeRefused, "Comments are not enabled here").WithHint("Name the local user in the configuration.")
	}
	r.Body = http.MaxBytesReader(w, r.Body, commentLimit+8<<10)
	if err := r.ParseForm(); err != nil {
		return ccci.Errorf(ccci.CodeInvalid, "The comment cannot be read: %w", err).WithHint("A comment has at most 64 KiB.")
	}
	text := strings.ReplaceAll(r.PostForm.Get("body"), "\r\n", "\n")
	if err := d.tokens.check(r); err != nil {
		return d.showPull(w, r, ref, http.StatusForbidden, commentForm{Text: text,
			Problem: "The form has expired (cc-ci was restarted, or cookies are off). Your text is still here: send it again."})
	}
	switch {
	case strings.TrimSpace(text) == "":
		return d.showPull(w, r, ref, http.StatusUnprocessableEntity, commentForm{Problem: "Write something first, such as !testme."})
	case len(text) > commentLimit:
		return d.showPull(w, r, ref, http.StatusUnprocessableEntity, commentForm{Text: text, Problem: "A comment has at most 64 KiB."})
	}
	id, err := d.cfg.Forge.AddComment(r.Context(), ref, d.cfg.User, strings.TrimRight(text, "\n"))
	if err != nil {
		return fmt.Errorf("writing a comment on %s: %w", ref, err)
	}
	if d.cfg.Bus != nil {
		if err := d.cfg.Bus.Publish(r.Context(), ccci.TopicForge, ref.Repo.String()); err != nil {
			d.log.Warn("telling of a comment", "pull", ref, "error", err) // polls find it
		}
	}
	http.Redirect(w, r, pullURL(ref)+"#comment-"+url.PathEscape(string(id)), http.StatusSeeOther)
	return nil
}

// ownLink turns an address of this site into a path, so that it works under
// whatever name the reader came by; addresses of other sites stay, if they are
// http or https, and all else is dropped.
func (d *Dashboard) ownLink(link string) string {
	if d.base != nil {
		if rest, ok := strings.CutPrefix(link, d.base.String()); ok && (rest == "" || rest[0] == '/') {
			return "/" + strings.TrimPrefix(rest, "/")
		}
	}
	if strings.HasPrefix(link, "/") && !strings.HasPrefix(link, "//") || strings.HasPrefix(link, "https://") || strings.HasPrefix(link, "http://") {
		return link
	}
	return ""
}
