package main

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/config"
	"github.com/recipe-maintainers/cc-ci/internal/forge/localforge"
)

// forgeCmd drives the local forge from a terminal. It works beside a running
// server, which notices comments at its next poll.
type forgeCmd struct {
	Import  forgeImportCmd  `cmd:"" help:"Copy a git repository with its branches and tags onto the local forge."`
	PR      forgePRCmd      `cmd:"" name:"pr" help:"Open a pull request."`
	Comment forgeCommentCmd `cmd:"" help:"Comment on a pull request, as in: forge comment coop/wiki#1 '!testme'"`
	Member  forgeMemberCmd  `cmd:"" help:"Add a member to the organisation."`
	List    forgeListCmd    `cmd:"" help:"List repositories and their pull requests."`
}

// openLocal opens the forge of the configuration.
func (a *app) openLocal() (*localforge.Forge, config.Config, error) {
	cfg, err := a.config()
	if err != nil {
		return nil, cfg, err
	}
	forge, err := openLocal(a.ctx, cfg)
	return forge, cfg, err
}

// pullPage is the address of a pull request of the local forge, "" where it has no page that the
// configuration knows.
func pullPage(cfg config.Config, pr ccci.PRRef) string {
	if cfg.Processes == config.Apart || knownURL(cfg) == "" {
		return ""
	}
	return fmt.Sprintf("%s/pulls/%s/%d", cfg.URL, pr.Repo, pr.Number)
}

// openLocal refuses where pull requests are elsewhere.
func openLocal(ctx context.Context, cfg config.Config) (*localforge.Forge, error) {
	if _, local := cfg.Local(); !local {
		return nil, ccci.Errorf(ccci.CodeInvalid, "the configuration has no local forge").WithHint("add {kind: local, org: …} to forges, or work on the forge that it names")
	}
	return openForge(ctx, cfg, nil)
}

// wayOut adds the command that shows what there is, where nothing better is known.
func wayOut(err error) error {
	code := ccci.CodeOf(err)
	if code == ccci.CodeRefused && ccci.HintOf(err) == "" {
		return ccci.Errorf(code, "%w", err).WithHint("--as names the person who writes")
	}
	if ccci.HintOf(err) != "" || code != ccci.CodeNotFound && code != ccci.CodeConflict {
		return err
	}
	return ccci.Errorf(code, "%w", err).WithHint("cc-ci forge list shows what there is")
}

// folder returns the absolute path of an existing folder.
func folder(name string) (string, error) {
	dir, err := filepath.Abs(name)
	if err != nil {
		return "", fmt.Errorf("finding %s: %w", name, err)
	}
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return "", ccci.Errorf(ccci.CodeInvalid, "there is no folder %s", name).WithHint("name a folder on this machine")
	}
	return dir, nil
}

type forgeImportCmd struct {
	Dir  string `arg:"" help:"Git repository on this machine."`
	Repo string `arg:"" help:"OWNER/NAME on the forge."`
}

func (c *forgeImportCmd) Run(a *app) error {
	repo, err := ccci.ParseRepoRef(c.Repo)
	if err != nil {
		return err
	}
	dir, err := folder(c.Dir)
	if err != nil {
		return err
	}
	if err := checkout(a.ctx, dir); err != nil {
		return err
	}
	forge, _, err := a.openLocal()
	if err != nil {
		return err
	}
	defer forge.Close()
	path, err := forge.ImportRepo(a.ctx, repo, dir)
	if err != nil {
		return wayOut(err)
	}
	fmt.Fprintf(a.stdout, "%s is at %s; push branches there\n", repo, path)
	return nil
}

type forgePRCmd struct {
	Repo   string `arg:"" help:"OWNER/NAME."`
	Branch string `arg:"" help:"Branch with the change."`
	Base   string `help:"Branch it should go into; default the repository's default branch."`
	Title  string `help:"Title; default the branch's name."`
}

func (c *forgePRCmd) Run(a *app) error {
	repo, err := ccci.ParseRepoRef(c.Repo)
	if err != nil {
		return err
	}
	forge, cfg, err := a.openLocal()
	if err != nil {
		return err
	}
	defer forge.Close()
	base := c.Base
	if base == "" {
		r, err := forge.Repository(a.ctx, repo)
		if err != nil {
			return wayOut(err)
		}
		base = r.Branch
	}
	if c.Branch == base {
		return ccci.Errorf(ccci.CodeInvalid, "the branch %s cannot go into itself", c.Branch).WithHint("name the branch with the change; --base names the one it should go into")
	}
	title := c.Title
	if title == "" {
		title = c.Branch
	}
	pr, err := forge.OpenPullRequest(a.ctx, repo, title, c.Branch, base, cfg.Forge.User)
	if err != nil {
		return wayOut(err)
	}
	fmt.Fprintf(a.stdout, "%s: %s at %s\n", pr.Ref, pr.Title, pr.Head.Short())
	if page := pullPage(cfg, pr.Ref); page != "" {
		fmt.Fprintln(a.stdout, page)
	}
	return nil
}

type forgeCommentCmd struct {
	PR   string `arg:"" help:"OWNER/NAME#NUMBER."`
	Body string `arg:"" help:"What to write."`
	As   string `help:"Who writes; default the configuration's user."`
}

func (c *forgeCommentCmd) Run(a *app) error {
	pr, err := parsePR(c.PR)
	if err != nil {
		return err
	}
	if strings.TrimSpace(c.Body) == "" {
		return ccci.Errorf(ccci.CodeInvalid, "the comment is empty").WithHint("cc-ci forge comment %s '!help' asks for the commands", pr)
	}
	forge, cfg, err := a.openLocal()
	if err != nil {
		return err
	}
	defer forge.Close()
	user := cmp.Or(c.As, cfg.Forge.User)
	id, err := forge.AddComment(a.ctx, pr, user, c.Body)
	if err != nil {
		return wayOut(err)
	}
	fmt.Fprintf(a.stdout, "comment %s on %s by %s\n", id, pr, user)
	if page := pullPage(cfg, pr); page != "" {
		fmt.Fprintf(a.stdout, "%s#comment-%s\n", page, url.PathEscape(string(id)))
	}
	return nil
}

func parsePR(text string) (ccci.PRRef, error) {
	repo, number, ok := strings.Cut(text, "#")
	ref, err := ccci.ParseRepoRef(repo)
	n, numErr := strconv.Atoi(number)
	if !ok || err != nil || numErr != nil || n < 1 {
		return ccci.PRRef{}, ccci.Errorf(ccci.CodeInvalid, "%q is not a pull request", text).WithHint("write owner/name#number")
	}
	return ccci.PRRef{Repo: ref, Number: n}, nil
}

type forgeMemberCmd struct {
	User string `arg:"" help:"Name of the account."`
}

func (c *forgeMemberCmd) Run(a *app) error {
	cfg, err := a.config()
	if err != nil {
		return err
	}
	forge, err := openLocal(a.ctx, cfg)
	if err != nil {
		return err
	}
	defer forge.Close()
	if err := forge.AddMember(a.ctx, cfg.Forge.Org, c.User); err != nil {
		return err
	}
	fmt.Fprintf(a.stdout, "%s is a member of %s\n", c.User, cfg.Forge.Org)
	return nil
}

type forgeListCmd struct{}

func (forgeListCmd) Run(a *app) error {
	forge, _, err := a.openLocal()
	if err != nil {
		return err
	}
	defer forge.Close()
	repos, err := forge.Repos(a.ctx)
	if err != nil {
		return err
	}
	for _, repo := range repos {
		fmt.Fprintln(a.stdout, repo)
		pulls, err := forge.PullRequests(a.ctx, repo)
		if err != nil {
			return err
		}
		for _, pr := range pulls {
			state := "open"
			if !pr.Open {
				state = "closed"
			}
			fmt.Fprintf(a.stdout, "  #%d  %-6s  %s  %s\n", pr.Ref.Number, state, pr.Head.Short(), pr.Title)
		}
	}
	if len(repos) == 0 {
		fmt.Fprintln(a.stdout, "no repositories; cc-ci forge import DIR OWNER/NAME brings one")
	}
	return nil
}
