package dashboard

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// How many recipes a page of the overview shows. An installation with more than cardsPage recipes
// gets the list unless a reader asks for cards.
const (
	cardsPage = 12
	listPage  = 50
	// queryLimit is how many bytes of a search text count: as many as a name may have.
	queryLimit = 100
	// unfinishedLimit bounds the queued and running runs that pages read.
	unfinishedLimit = 500
)

type overviewBody struct {
	Query   overviewQuery
	List    bool   // a dense list in place of cards
	Recipes []card // of this page
	Total   int    // recipes that are known
	Filters []filter
	Views   []filter // list and cards
	Pager   pager
	// Running and Queued count runs, as the queue's page does.
	Running, Queued int
	// Searchable is false while there are so few recipes that looking is faster.
	Searchable bool
}

// card is one recipe of the overview.
type card struct {
	standing
	Picture *picture // nil in the list
}

// Why is the cause of a bad verdict, "" for others.
func (c card) Why() string {
	if c.Speaks == nil || c.Stale || c.Speaks.Status == ccci.StatusPassed {
		return ""
	}
	return c.Speaks.Cause
}

type filter struct {
	Name, Word, URL string
	Count           int
	Current         bool
	Mark            mark
}

// classes are what a recipe may be, those that need a person first.
var classes = []struct {
	name string
	mark mark
}{
	{"failed", markOf(ccci.StatusFailed)},
	{"refused", markOf(ccci.StatusRefused)},
	{"errored", markOf(ccci.StatusErrored)},
	{"inconclusive", markOf(ccci.StatusInconclusive)},
	{"flaky", markOf(ccci.StatusFlaky)},
	{"stale", staleMark},
	{"untested", untestedMark},
	{"passed", markOf(ccci.StatusPassed)},
}

func classRank(name string) int {
	for i, c := range classes {
		if c.name == name {
			return i
		}
	}
	return -1
}

// overviewQuery is what an address of the overview asks for.
type overviewQuery struct {
	Text   string // part of a name
	Status string // one of classes; "" for all
	View   string // "list", "cards" or "" for what the number of recipes makes best
	Page   int    // from 1
}

func readOverviewQuery(v url.Values) overviewQuery {
	q := overviewQuery{Text: strings.TrimSpace(v.Get("q")), Status: v.Get("status"), View: v.Get("view")}
	q.Text = strings.ToValidUTF8(q.Text[:min(len(q.Text), queryLimit)], "")
	if classRank(q.Status) < 0 {
		q.Status = ""
	}
	if q.View != "list" && q.View != "cards" {
		q.View = ""
	}
	q.Page, _ = strconv.Atoi(v.Get("page"))
	q.Page = max(q.Page, 1)
	return q
}

// URL is the address that asks for the same.
func (q overviewQuery) URL() string {
	v := url.Values{}
	for _, field := range []struct{ key, value string }{{"q", q.Text}, {"status", q.Status}, {"view", q.View}} {
		if field.value != "" {
			v.Set(field.key, field.value)
		}
	}
	if q.Page > 1 {
		v.Set("page", strconv.Itoa(q.Page))
	}
	if len(v) == 0 {
		return "/"
	}
	return "/?" + v.Encode()
}

// first returns the query for the first page, changed.
func (q overviewQuery) first(change func(*overviewQuery)) overviewQuery {
	q.Page = 1
	change(&q)
	return q
}

func (q overviewQuery) matches(s standing) bool {
	return (q.Status == "" || q.Status == s.Class()) && strings.Contains(strings.ToLower(s.Recipe), strings.ToLower(q.Text))
}

// pager leads from page to page. The zero value is that of a single page.
type pager struct {
	Page, Pages    int
	From, To, All  int // the entries of this page, from 1
	Previous, Next string
}

// cut returns the page of all that q asks for; one after the last is the last.
func cut[T any](all []T, size int, q overviewQuery) ([]T, pager) {
	p := pager{Pages: max((len(all)+size-1)/size, 1), All: len(all)}
	p.Page = min(q.Page, p.Pages)
	begin, end := (p.Page-1)*size, min(p.Page*size, len(all))
	p.From, p.To = begin+1, end
	if p.Page > 1 {
		p.Previous = overviewQuery{q.Text, q.Status, q.View, p.Page - 1}.URL()
	}
	if p.Page < p.Pages {
		p.Next = overviewQuery{q.Text, q.Status, q.View, p.Page + 1}.URL()
	}
	return all[begin:end], p
}

// overview shows recipes with their latest result (A27), those that need a person first.
func (d *Dashboard) overview(w http.ResponseWriter, r *http.Request) error {
	all, err := d.standings(r.Context())
	if err != nil {
		return err
	}
	q := readOverviewQuery(r.URL.Query())
	b := overviewBody{Query: q, Total: len(all), List: q.View == "list" || q.View == "" && len(all) > cardsPage}
	b.Searchable = len(all) > 8 || q.Text != ""
	if b.Running, b.Queued, err = d.atWork(r.Context()); err != nil {
		return err
	}
	counts := map[string]int{}
	var found []standing
	for _, s := range all {
		counts[s.Class()]++
		if q.matches(s) {
			found = append(found, s)
		}
	}
	slices.SortStableFunc(found, func(a, b standing) int { return cmp.Compare(classRank(a.Class()), classRank(b.Class())) })
	size := cardsPage
	if b.List {
		size = listPage
	}
	found, b.Pager = cut(found, size, q)
	for _, s := range found {
		c := card{standing: s}
		if !b.List {
			c.Picture = d.thumbnail(r.Context(), s.Speaks)
		}
		b.Recipes = append(b.Recipes, c)
	}
	b.Filters, b.Views = filters(q, counts, len(all)), views(q, b.List)
	return d.render(w, r, http.StatusOK, "overview", frame{Title: "Recipes", Nav: "overview", Live: "/events", Refresh: 30, Body: b})
}

func filters(q overviewQuery, counts map[string]int, all int) []filter {
	list := []filter{{Word: "all", URL: q.first(func(q *overviewQuery) { q.Status = "" }).URL(), Count: all, Current: q.Status == ""}}
	for _, c := range classes {
		if counts[c.name] == 0 && q.Status != c.name {
			continue
		}
		list = append(list, filter{Name: c.name, Word: c.mark.Word, Mark: c.mark, Count: counts[c.name],
			URL: q.first(func(q *overviewQuery) { q.Status = c.name }).URL(), Current: q.Status == c.name})
	}
	return list
}

func views(q overviewQuery, list bool) []filter {
	return []filter{
		{Word: "List", URL: q.first(func(q *overviewQuery) { q.View = "list" }).URL(), Current: list},
		{Word: "Cards", URL: q.first(func(q *overviewQuery) { q.View = "cards" }).URL(), Current: !list},
	}
}

// unfinished returns the queued and running runs: what the queue lists and the overview counts.
func (d *Dashboard) unfinished(ctx context.Context) ([]ccci.Run, error) {
	runs, err := d.cfg.Store.FindRuns(ctx, ccci.RunFilter{Unfinished: true, Limit: unfinishedLimit})
	if err != nil {
		return nil, fmt.Errorf("reading the queue: %w", err)
	}
	return runs, nil
}

// atWork counts the runs that are running and those that wait.
func (d *Dashboard) atWork(ctx context.Context) (running, queued int, err error) {
	runs, err := d.unfinished(ctx)
	for _, run := range runs {
		if run.Status == ccci.StatusRunning {
			running++
		} else {
			queued++
		}
	}
	return running, queued, err
}
