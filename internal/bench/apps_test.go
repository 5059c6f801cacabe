package bench

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
)

// miniflux is one feed, whose title is the marker.
var miniflux = app{
	recipe:  "miniflux",
	vars:    []string{"ADMIN_USERNAME=admin", "POLLING_FREQUENCY=60", "MINIFLUX_CONF_VERSION=v1", "PG_BACKUP_SH_VERSION=v1"},
	secrets: []string{"db_password"},
	image:   "cc-ci.local/miniflux:2.2.3",
	healthy: func(o *operator) bool {
		status, body := o.get("/healthcheck")
		return status == http.StatusOK && strings.Contains(body, "OK")
	},
	seed: func(o *operator, title string) {
		o.put(http.MethodPost, "/v1/import", `<?xml version="1.0"?><opml version="2.0"><body><outline text="cc-ci">`+
			`<outline type="rss" title="seed" text="seed" xmlUrl="http://feed.invalid/feed.xml" htmlUrl="http://feed.invalid/"/></outline></body></opml>`, o.admin)
		renameFeed(o, title)
	},
	change: renameFeed,
	read: func(o *operator) string {
		var feeds []struct{ Title string }
		_, body := o.get("/v1/feeds")
		if json.Unmarshal([]byte(body), &feeds) != nil || len(feeds) != 1 {
			return ""
		}
		return feeds[0].Title
	},
	serves: func(o *operator) bool {
		status, body := o.get("/version")
		return status == http.StatusOK && strings.HasPrefix(body, "2.2.3")
	},
	check: func(o *operator) {
		if _, body := o.get("/version"); !strings.HasPrefix(body, "2.2.") {
			o.b.Fatalf("/version says %q", body)
		}
		schema := o.run("", "docker", "exec", o.container("db"), "psql", "--no-psqlrc", "--tuples-only", "--no-align", "--username=miniflux", "--dbname=miniflux",
			"--command=SELECT 'migrated' FROM schema_version WHERE version::int >= 99")
		if !strings.Contains(schema, "migrated") {
			o.b.Fatalf("the schema is not migrated: %s", schema)
		}
		if status, _ := o.request(http.MethodGet, "/v1/me", "", "not-the-password"); status != http.StatusUnauthorized {
			o.b.Fatalf("a wrong password gets %d", status)
		}
	},
	login: func(o *operator) {
		_, page := o.request(http.MethodGet, "/", "", "")
		token := csrf.FindStringSubmatch(page)
		if token == nil {
			o.b.Fatalf("no form on the first page:\n%.500s", page)
		}
		if status, _, _ := o.post("/login", url.Values{"csrf": {token[1]}, "username": {"admin"}, "password": {o.admin}}); status != http.StatusFound {
			o.b.Fatalf("logging in: %d", status)
		}
		if status, page := o.request(http.MethodGet, "/unread", "", ""); status != http.StatusOK || !strings.Contains(page, `href="/logout"`) {
			o.b.Fatalf("the login did not last: %d", status)
		}
	},
	hook: "/pg_backup.sh",
	stored: func(o *operator) []string {
		return []string{filepath.Join(o.volume("postgres"), "dump", "miniflux.pgdump")}
	},
	volumes: []string{"postgres"},
}

var csrf = regexp.MustCompile(`name="csrf" value="([^"]+)"`)

// renameFeed gives the one feed another title.
func renameFeed(o *operator, title string) {
	var feeds []struct{ ID int }
	_, body := o.get("/v1/feeds")
	if err := json.Unmarshal([]byte(body), &feeds); err != nil || len(feeds) != 1 {
		o.b.Fatalf("reading the feeds: %v: %s", err, body)
	}
	o.put(http.MethodPut, fmt.Sprintf("/v1/feeds/%d", feeds[0].ID), fmt.Sprintf(`{"title": %q}`, title), o.admin)
}

// wordpress is one post, whose title is the marker.
var wordpress = app{
	recipe:  "wordpress",
	vars:    []string{"WP_CONFIG_VERSION=v1", "DB_BACKUP_SH_VERSION=v1"},
	secrets: []string{"db_password", "root_password", "auth_key"},
	image:   "cc-ci.local/wordpress:6.8",
	healthy: func(o *operator) bool {
		status, body := o.get("/wp-admin/install.php")
		return status == http.StatusOK && strings.Contains(body, "WordPress")
	},
	seed: func(o *operator, title string) {
		form := url.Values{"weblog_title": {"by hand"}, "user_name": {"admin"}, "admin_password": {o.admin}, "admin_password2": {o.admin}, "admin_email": {"admin@example.org"}}
		if status, _, page := o.post("/wp-admin/install.php?step=2", form); status != http.StatusOK || !strings.Contains(page, "Success!") {
			o.b.Fatalf("making the site: %d\n%.2000s", status, page)
		}
		o.put(http.MethodPost, "/?rest_route=/wp/v2/posts", fmt.Sprintf(`{"slug": "cc-ci", "status": "publish", "title": %q}`, title), appPassword(o))
	},
	change: func(o *operator, title string) {
		posts := findPosts(o)
		if len(posts) != 1 {
			o.b.Fatalf("%d posts are named cc-ci", len(posts))
		}
		o.put(http.MethodPost, fmt.Sprintf("/?rest_route=/wp/v2/posts/%d", posts[0].ID), fmt.Sprintf(`{"title": %q}`, title), appPassword(o))
	},
	read: func(o *operator) string {
		posts := findPosts(o)
		if len(posts) != 1 {
			return ""
		}
		return posts[0].Title.Rendered
	},
	serves: func(o *operator) bool {
		status, page := o.request(http.MethodGet, "/", "", "")
		return status == http.StatusOK && strings.Contains(page, newWordPress)
	},
	check: func(o *operator) {
		if _, page := o.request(http.MethodGet, "/", "", ""); !strings.Contains(page, newWordPress) {
			o.b.Fatalf("not the new version:\n%.2000s", page)
		}
		if status, page := o.request(http.MethodGet, "/wp-admin/upgrade.php?step=1", "", ""); status != http.StatusOK || strings.Contains(page, "There was an error") {
			o.b.Fatalf("migrating the database: %d\n%.2000s", status, page)
		}
		if version := runPHP(o, "echo get_option('db_version'), ' of ', $wp_db_version;"); version != "60421 of 60421" {
			o.b.Fatalf("the database is of version %s", version)
		}
		if status, _ := o.request(http.MethodGet, "/?rest_route=/wp/v2/users/me", "", "not-the-password"); status != http.StatusUnauthorized {
			o.b.Fatalf("a wrong password gets %d", status)
		}
	},
	login: func(o *operator) {
		o.request(http.MethodGet, "/wp-login.php", "", "") // its cookie must come back with the form
		if status, to, page := o.post("/wp-login.php", url.Values{"log": {"admin"}, "pwd": {o.admin}, "testcookie": {"1"}}); status != http.StatusFound {
			o.b.Fatalf("logging in: %d, to %q\n%.2000s", status, to, page)
		}
		if status, page := o.request(http.MethodGet, "/wp-admin/", "", ""); status != http.StatusOK || !strings.Contains(page, "wpadminbar") {
			o.b.Fatalf("the login did not last: %d", status)
		}
	},
	hook: "/db_backup.sh",
	stored: func(o *operator) []string {
		return []string{filepath.Join(o.volume("mariadb"), "dump", "wordpress.sql"), o.volume("content")}
	},
	volumes: []string{"mariadb", "content"},
	whole:   "content",
}

const newWordPress = `content="WordPress 6.8`

type post struct {
	ID    int
	Title struct{ Rendered string }
}

// findPosts returns those with the name that seed gives; none where nothing answers.
func findPosts(o *operator) (posts []post) {
	_, body := o.request(http.MethodGet, "/?rest_route=/wp/v2/posts&slug=cc-ci", "", "")
	if json.Unmarshal([]byte(body), &posts) != nil {
		return nil
	}
	return posts
}

// appPassword makes a password that the REST API takes.
func appPassword(o *operator) string {
	return runPHP(o, "echo WP_Application_Passwords::create_new_application_password(1, ['name' => 'by hand'])[0];")
}

// runPHP runs code inside the app.
func runPHP(o *operator, code string) string {
	return strings.TrimSpace(o.run("<?php $_SERVER['HTTP_HOST'] = 'localhost'; require '/usr/share/wordpress/wp-load.php'; "+code, "docker", "exec", "--interactive", o.container("app"), "php"))
}
