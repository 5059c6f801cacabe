package githubfake

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	ccci "github.com/recipe-maintainers/cc-ci"
)

func (s *Server) path(r *repository) string { return filepath.Join(s.dir, fmt.Sprintf("%d.git", r.id)) }

func gitEnv() []string {
	return []string{"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent", "LC_ALL=C", "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_TERMINAL_PROMPT=0"}
}

func (s *Server) git(r *repository, args ...string) (string, error) {
	cmd := exec.Command("git", append([]string{"-c", "safe.directory=*", "--git-dir=" + s.path(r)}, args...)...)
	cmd.Env = gitEnv()
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("git %s: %w: %s", args[0], err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

// CreateRepo makes a repository and returns where to push to.
func (s *Server) CreateRepo(ref ccci.RepoRef, private bool) (string, error) {
	s.mu.Lock()
	r := &repository{id: s.id(), owner: s.account(ref.Owner, "User"), name: ref.Name, private: private, pulls: map[int]*pull{}, heads: map[string]string{}}
	s.mu.Unlock()
	template, err := s.template()
	if err == nil {
		err = os.CopyFS(s.path(r), os.DirFS(template))
	}
	if err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.repos[r.id] = r
	s.names[strings.ToLower(ref.String())] = r.id
	return s.cloneURL(r), nil
}

// template makes an empty repository once; the others are copies, which are
// cheap even by the hundred.
func (s *Server) template() (string, error) {
	s.push.Lock()
	defer s.push.Unlock()
	empty := &repository{}
	path := s.path(empty)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	if _, err := s.git(empty, "init", "--quiet", "--bare", "--initial-branch=main", "--template="); err != nil {
		return "", err
	}
	for _, setting := range [][2]string{{"http.receivepack", "true"}, {"uploadpack.allowAnySHA1InWant", "true"}, {"gc.auto", "0"}, {"receive.autogc", "false"}} {
		if _, err := s.git(empty, "config", setting[0], setting[1]); err != nil {
			return "", err
		}
	}
	return path, nil
}

func (s *Server) cloneURL(r *repository) string { return s.URL + "/" + r.full() + ".git" }

// Fork copies a repository to another owner and returns where to push to.
func (s *Server) Fork(ref ccci.RepoRef, owner string) (ccci.RepoRef, string, error) {
	fork := ccci.RepoRef{Owner: owner, Name: ref.Name}
	remote, err := s.CreateRepo(fork, false)
	if err != nil {
		return fork, "", err
	}
	s.mu.Lock()
	r, parent := s.repo(fork), s.knownRepo(ref)
	r.parent = parent
	s.mu.Unlock()
	if _, err := s.git(r, "fetch", "--quiet", s.path(parent), "refs/heads/*:refs/heads/*"); err != nil {
		return fork, "", err
	}
	return fork, remote, s.notice(r)
}

// serveGit serves git's smart http protocol with git's own program.
func (s *Server) serveGit(w http.ResponseWriter, req *http.Request) {
	parts := strings.SplitN(strings.TrimPrefix(req.URL.Path, "/"), "/", 3)
	if len(parts) < 3 {
		http.NotFound(w, req)
		return
	}
	s.mu.Lock()
	r := s.repo(ccci.RepoRef{Owner: parts[0], Name: strings.TrimSuffix(parts[1], ".git")})
	s.mu.Unlock()
	if r == nil {
		http.NotFound(w, req)
		return
	}
	backend, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	inner := req.Clone(req.Context())
	inner.URL.Path = fmt.Sprintf("/%d.git/%s", r.id, parts[2])
	handler := &cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(string(backend)), "git-http-backend"), Root: "/",
		Env: append(gitEnv(), "GIT_PROJECT_ROOT="+s.dir, "GIT_HTTP_EXPORT_ALL=1"),
	}
	if !strings.HasSuffix(parts[2], "git-receive-pack") || req.Method != http.MethodPost {
		handler.ServeHTTP(w, inner)
		return
	}
	// Whoever pushed hears of it when everybody else can see it.
	s.push.Lock()
	defer s.push.Unlock()
	held := httptest.NewRecorder()
	handler.ServeHTTP(held, inner)
	if err := s.notice(r); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	maps.Copy(w.Header(), held.Header())
	w.WriteHeader(held.Code)
	w.Write(held.Body.Bytes())
}

const noCommit = "0000000000000000000000000000000000000000"

// notice compares a repository's branches with what was known, and makes pushes of
// the differences.
func (s *Server) notice(r *repository) error {
	listed, err := s.git(r, "for-each-ref", "--format=%(refname) %(objectname)", "refs/heads")
	if err != nil {
		return err
	}
	heads := map[string]string{}
	for line := range strings.Lines(listed) {
		if ref, sha, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			heads[ref] = sha
		}
	}
	s.mu.Lock()
	var changed []*pull
	refs := slices.Sorted(maps.Keys(heads))
	for ref := range r.heads {
		if heads[ref] == "" {
			refs = append(refs, ref)
		}
	}
	for _, ref := range refs {
		before, after := r.heads[ref], heads[ref]
		if before == after {
			continue
		}
		a := activity{id: s.id(), before: before, after: after, ref: ref, kind: "push", at: s.tick(), actor: r.owner}
		switch {
		case before == "":
			a.before, a.kind = noCommit, "branch_creation"
		case after == "":
			a.after, a.kind = noCommit, "branch_deletion"
		default:
			if _, err := s.git(r, "merge-base", "--is-ancestor", before, after); err != nil {
				a.kind = "force_push"
			}
		}
		r.activities = append(r.activities, a)
		for _, base := range s.repos {
			for _, p := range base.pulls {
				if p.head == r && "refs/heads/"+p.branch == ref && p.open && after != "" {
					if a.kind == "force_push" {
						p.forced = append(p.forced, a.at)
					}
					p.sha, p.updated = after, a.at
					changed = append(changed, p)
				}
			}
		}
	}
	r.heads = heads
	s.mu.Unlock()
	for _, p := range changed {
		s.publishPull(p)
	}
	return nil
}

// publishPull makes a pull request's head fetchable from the base repository.
func (s *Server) publishPull(p *pull) {
	ref := fmt.Sprintf("+%s:refs/pull/%d/head", p.sha, p.number)
	if _, err := s.git(p.repo, "fetch", "--quiet", s.path(p.head), ref); err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.problem("publishing the head of %s#%d: %v", p.repo.full(), p.number, err)
	}
}

func (s *Server) hasCommit(r *repository, sha string) bool {
	if !ccci.Commit(sha).Valid() {
		return false
	}
	_, err := s.git(r, "cat-file", "-e", sha+"^{commit}")
	return err == nil
}
