package admission

import (
	"slices"
	"strings"
)

// The proxy makes every middleware that a router refers to, and those of chains again for each
// reference: a chain of chains grows with each level by as much as it has references.

// maxMiddlewares bounds the middlewares of one router, chains and all that they refer to included,
// maxMiddlewareSum those of all routers of a stack.
const maxMiddlewares, maxMiddlewareSum = 64, 400

// chains are the references to middlewares of a whole stack: the proxy knows no services.
// Names are in lower case.
type chains struct {
	lists   map[string][][]string // of a chain, each different one that a label sets
	counted map[string]int        // middlewares that one reference stands for; -1 while they are counted
}

// references are the names of a list.
func references(list string) []string {
	var names []string
	for ref := range strings.SplitSeq(list, ",") {
		name, _, _ := strings.Cut(strings.ToLower(strings.TrimSpace(ref)), "@")
		if name != "" {
			names = append(names, name)
		}
	}
	return names
}

func (c *chains) add(name, list string) {
	names := references(list)
	if slices.ContainsFunc(c.lists[name], func(other []string) bool { return slices.Equal(names, other) }) {
		return
	}
	if c.lists == nil {
		c.lists, c.counted = map[string][][]string{}, map[string]int{}
	}
	c.lists[name] = append(c.lists[name], names)
}

// count returns how many middlewares a list comes to, at most one more than there may be, and
// whether a chain in it refers to itself.
func (c *chains) count(names []string) (n int, circle bool) {
	for _, name := range names {
		one, known := c.counted[name]
		if one < 0 {
			return 0, true
		}
		if lists := c.lists[name]; !known && len(lists) > 0 {
			c.counted[name] = -1
			for _, list := range lists {
				inner, round := c.count(list)
				if round {
					return 0, true // what is left at -1 is part of the circle, or leads into it
				}
				one = max(one, inner)
			}
			c.counted[name] = one
		}
		if n += 1 + one; n > maxMiddlewares {
			return maxMiddlewares + 1, false
		}
	}
	return n, false
}

// use is a router's list of middlewares.
type use struct {
	service, key string
	value        string // of the label
	names        []string
	at           place
}

// middlewareChains judges the middlewares of each router once all labels are read.
func (j *judge) middlewareChains() {
	sum := 0
	for _, u := range j.uses {
		switch n, circle := j.chains.count(u.names); {
		case circle:
			j.refuse(ruleTraefik, u.service, j.keyValue(u.key, u.value), u.at, "", "sets the label %q to middlewares that refer to themselves", u.key)
		case n > maxMiddlewares:
			j.refuse(ruleSize, u.service, u.key, u.at, "", "sets the label %q to more than %d middlewares, those of chains included", u.key, maxMiddlewares)
		default:
			if sum += n; sum > maxMiddlewareSum {
				j.refuse(ruleSize, u.service, "middlewares", u.at, "", "sets the label %q, with which the routers of the stack have more than %d middlewares", u.key, maxMiddlewareSum)
			}
		}
	}
}
