package admission

import (
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/recipe-maintainers/cc-ci/internal/traefik"
)

// What a label may set of Traefik is a list, option by option, of versions 2 and 3. What
// is not on it is refused: the next version may read files, call hosts or speak to a
// store with it. Names are in lower case, as Traefik reads them without regard to case;
// [n] stands for an index and * for a name of the recipe's choice. [traefik.CheckKey] has judged
// what keys are made of.

// labelCheck judges the value of one option, and returns what is wrong with it, or "".
type labelCheck func(t *traefikLabels, value string) string

const (
	maxLabelValue = 8 << 10 // bytes
	maxMemory     = 2 << 20 // bytes that the proxy holds for one request
	maxHashCost   = 6       // of bcrypt: each step doubles the time that the proxy computes; htpasswd has 5
)

func anyText(_ *traefikLabels, value string) string {
	if strings.ContainsAny(value, "\x00\r\n") {
		return "is more than one line"
	}
	return ""
}

func matching(pattern, what string) labelCheck {
	re := regexp.MustCompile(pattern)
	return func(_ *traefikLabels, value string) string {
		if re.MatchString(strings.ToLower(strings.TrimSpace(value))) {
			return ""
		}
		return what
	}
}

func number(most int64) labelCheck {
	return func(_ *traefikLabels, value string) string {
		n, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
		if err != nil || n < -1 || n > most {
			return "is not a number up to " + strconv.FormatInt(most, 10)
		}
		return ""
	}
}

// atMost is a number from 0 to most: for Traefik -1 is no bound.
func atMost(most int64) labelCheck {
	check := number(most)
	return func(t *traefikLabels, value string) string {
		if strings.HasPrefix(strings.TrimSpace(value), "-") {
			return "is no bound; state one up to " + strconv.FormatInt(most, 10)
		}
		return check(t, value)
	}
}

// interval is a duration of at least one second.
func interval(t *traefikLabels, value string) string {
	if d, ok := period(value); !ok || d < time.Second {
		return "is not a time of at least one second"
	}
	return ""
}

func anyPeriod(_ *traefikLabels, value string) string {
	if _, ok := period(value); !ok {
		return "is not a time"
	}
	return ""
}

func ratePeriod(_ *traefikLabels, value string) string {
	if d, ok := period(value); !ok || d > time.Hour {
		return "is not a time of at most one hour"
	}
	return ""
}

// period reads a time as Traefik does: a number counts seconds.
func period(value string) (time.Duration, bool) {
	value = strings.TrimSpace(value)
	if n, err := strconv.ParseInt(value, 10, 32); err == nil {
		return time.Duration(n) * time.Second, n >= 0
	}
	d, err := time.ParseDuration(value)
	return d, err == nil && d >= 0 && d <= 24*time.Hour
}

var (
	truth    = matching(`^(true|false|t|f|1|0|)$`, "is neither true nor false")
	count    = number(1 << 31)
	memory   = atMost(maxMemory)
	port     = matching(`^[0-9]{1,5}$`, "is not a port")
	word     = matching(`^[a-z0-9_.-]*$`, "is not a plain name")
	words    = matching(`^[a-z0-9_.@-]*( *, *[a-z0-9_.@-]+)*$`, "is not a list of plain names")
	options  = matching(`^[a-z0-9_-]*(@file)?$`, "is not the name of TLS options")
	scheme   = matching(`^(http|https|h2c)?$`, "is none of http, https and h2c")
	versions = matching(`^(v2|v3|default)?$`, "is neither v2 nor v3")
	asking   = matching(`^(get|head)?$`, "is neither GET nor HEAD")
	strategy = matching(`^(wrr|p2c|hrw|leasttime)?$`, "is not a strategy")
)

// ownPath is a path on whoever the proxy speaks to anyway: not a URL of its own.
func ownPath(_ *traefikLabels, value string) string {
	u, err := url.Parse(value)
	if err != nil || !strings.HasPrefix(value, "/") || strings.HasPrefix(value, "//") || strings.Contains(value, `\`) || u.Host != "" || u.Scheme != "" {
		return "is not a path that begins with one slash"
	}
	return anyText(nil, value)
}

// ownDomain is one of the run's, or below it: browsers send a cookie of a parent domain to other runs.
func ownDomain(t *traefikLabels, value string) string {
	if value == "" {
		return ""
	}
	if _, err := proveRule("Host(`"+strings.TrimPrefix(strings.TrimSpace(value), ".")+"`)", t.policy.Domains); err != nil {
		return "is not a domain of the run's own"
	}
	return ""
}

var (
	hashCost   = regexp.MustCompile(`\$2[a-z]?\$([0-9]+)\$`)
	hashScheme = regexp.MustCompile(`:\$([^$,]*)\$`)
	schemes    = []string{"apr1", "1", "2a", "2b", "2x", "2y"}
)

// noUsers is what userList says of a list that ends the proxy's reading of all configurations.
const noUsers = "names no user"

// userList bounds what checking a password costs the proxy.
func userList(_ *traefikLabels, value string) string {
	if !strings.Contains(value, ":") {
		return noUsers
	}
	for _, m := range hashCost.FindAllStringSubmatch(value, -1) {
		if cost, err := strconv.Atoi(m[1]); err != nil || cost > maxHashCost {
			return "has a password with a cost above " + strconv.Itoa(maxHashCost)
		}
	}
	for _, m := range hashScheme.FindAllStringSubmatch(value, -1) {
		if !slices.Contains(schemes, m[1]) {
			return "has a password that is hashed in an unknown way"
		}
	}
	return anyText(nil, value)
}

// visitor is the header that a rate limit may take for the visitor's address. The proxy removes it
// from requests, and an authentication server must not bring it back: its texts are of any length.
const visitor = "X-Forwarded-For"

func answered(_ *traefikLabels, value string) string {
	for name := range strings.SplitSeq(value, ",") {
		if strings.EqualFold(strings.TrimSpace(name), visitor) {
			return "has " + visitor + ", which says where a visitor comes from"
		}
	}
	return anyText(nil, value)
}

func answeredPattern(_ *traefikLabels, value string) string {
	if wrong := cheap(value); wrong != "" {
		return wrong
	}
	if re, err := regexp.Compile(value); err != nil || re.MatchString(visitor) {
		return "matches " + visitor + ", which says where a visitor comes from"
	}
	return ""
}

func notTrue(_ *traefikLabels, value string) string {
	if truth(nil, value) == "" && !slices.Contains([]string{"true", "t", "1", ""}, strings.ToLower(strings.TrimSpace(value))) {
		return ""
	}
	return "may only be false"
}

// bodyPath may hold {status} and {url} beside a path.
func bodyPath(_ *traefikLabels, value string) string {
	return ownPath(nil, strings.NewReplacer("{status}", "0", "{url}", "u", "{originalstatus}", "0").Replace(value))
}

// optionTable has one entry for each option, by kind of object. A nil check stands for
// options that [traefikLabels] judges together with others.
var optionTable = map[string]map[string]labelCheck{
	"http.routers": {
		"rule": nil, "middlewares": nil, "service": nil, "entrypoints": words, "priority": number(1 << 62), "rulesyntax": versions,
		"tls": truth, "tls.certresolver": word, "tls.options": options, "tls.domains[n].main": nil, "tls.domains[n].sans": nil,
		"observability.accesslogs": truth, "observability.metrics": truth, "observability.tracing": truth, "observability.traceverbosity": word,
	},
	"tcp.routers": {
		"rule": nil, "middlewares": nil, "service": nil, "entrypoints": words, "priority": number(1 << 62), "rulesyntax": versions,
		"tls": truth, "tls.passthrough": truth, "tls.certresolver": word, "tls.options": options, "tls.domains[n].main": nil, "tls.domains[n].sans": nil,
	},
	"http.services": {
		"loadbalancer.server.port": port, "loadbalancer.server.scheme": scheme, "loadbalancer.server.weight": number(1000),
		"loadbalancer.server.preservepath": truth, "loadbalancer.passhostheader": truth, "loadbalancer.strategy": strategy,
		"loadbalancer.responseforwarding.flushinterval": anyPeriod,
		"loadbalancer.healthcheck.path":                 ownPath, "loadbalancer.healthcheck.port": port, "loadbalancer.healthcheck.scheme": scheme,
		"loadbalancer.healthcheck.interval": interval, "loadbalancer.healthcheck.unhealthyinterval": interval, "loadbalancer.healthcheck.timeout": anyPeriod,
		"loadbalancer.healthcheck.method": asking, "loadbalancer.healthcheck.mode": word, "loadbalancer.healthcheck.status": count,
		"loadbalancer.healthcheck.hostname": word, "loadbalancer.healthcheck.headers.*": anyText, "loadbalancer.healthcheck.followredirects": notTrue,
		"loadbalancer.passivehealthcheck.failurewindow": anyPeriod, "loadbalancer.passivehealthcheck.maxfailedattempts": count,
		"loadbalancer.sticky": truth, "loadbalancer.sticky.cookie": truth, "loadbalancer.sticky.cookie.name": word, "loadbalancer.sticky.cookie.secure": truth,
		"loadbalancer.sticky.cookie.httponly": truth, "loadbalancer.sticky.cookie.samesite": word, "loadbalancer.sticky.cookie.maxage": count,
		"loadbalancer.sticky.cookie.path": anyText, "loadbalancer.sticky.cookie.domain": ownDomain,
	},
	"tcp.services": {
		"loadbalancer.server.port": port, "loadbalancer.server.tls": truth, "loadbalancer.terminationdelay": count,
		"loadbalancer.proxyprotocol": truth, "loadbalancer.proxyprotocol.version": number(2),
	},
	"tcp.middlewares": {
		"ipallowlist.sourcerange": anyText, "ipwhitelist.sourcerange": anyText, "inflightconn.amount": count,
	},
	"http.middlewares": {
		"addprefix.prefix":      ownPath,
		"basicauth.users":       userList,
		"basicauth.realm":       anyText,
		"basicauth.usersfile":   nil,
		"digestauth.users":      userList,
		"digestauth.realm":      anyText,
		"digestauth.usersfile":  nil,
		"basicauth.headerfield": word, "basicauth.removeheader": truth, "digestauth.headerfield": word, "digestauth.removeheader": truth,
		"buffering.maxrequestbodybytes": count, "buffering.maxresponsebodybytes": count, "buffering.memrequestbodybytes": memory,
		"buffering.memresponsebodybytes": memory, "buffering.retryexpression": anyText,
		"chain.middlewares":         nil,
		"circuitbreaker.expression": anyText, "circuitbreaker.checkperiod": anyPeriod, "circuitbreaker.fallbackduration": anyPeriod,
		"circuitbreaker.recoveryduration": anyPeriod, "circuitbreaker.responsecode": count,
		"compress": truth, "compress.defaultencoding": word, "compress.encodings": words, "compress.excludedcontenttypes": anyText,
		"compress.includedcontenttypes": anyText, "compress.minresponsebodybytes": count,
		"contenttype": truth, "contenttype.autodetect": truth,
		"errors.query": bodyPath, "errors.service": nil, "errors.status": anyText, "errors.statusrewrites.*": count,
		"forwardauth.address": nil, "forwardauth.authrequestheaders": anyText, "forwardauth.authresponseheaders": answered,
		"forwardauth.authresponseheadersregex": answeredPattern, "forwardauth.addauthcookiestoresponse": anyText, "forwardauth.trustforwardheader": truth,
		"forwardauth.forwardbody": truth, "forwardauth.maxbodysize": memory, "forwardauth.maxresponsebodysize": memory, "forwardauth.headerfield": word,
		"forwardauth.preservelocationheader": truth, "forwardauth.preserverequestmethod": truth,
		"grpcweb.alloworigins":     anyText,
		"ipallowlist.sourcerange":  anyText,
		"ipallowlist.ipstrategy":   truth,
		"ipwhitelist.sourcerange":  anyText,
		"ipwhitelist.ipstrategy":   truth,
		"ipallowlist.ipstrategy.*": anyText, "ipwhitelist.ipstrategy.*": anyText, "ipallowlist.rejectstatuscode": count,
		"inflightreq.amount":                      count,
		"inflightreq.sourcecriterion.requesthost": truth, "inflightreq.sourcecriterion.ipstrategy": truth, "inflightreq.sourcecriterion.ipstrategy.depth": count,
		"inflightreq.sourcecriterion.ipstrategy.excludedips": anyText, "inflightreq.sourcecriterion.ipstrategy.ipv6subnet": number(128),
		"passtlsclientcert.pem": truth, "passtlsclientcert.info.notafter": truth, "passtlsclientcert.info.notbefore": truth,
		"passtlsclientcert.info.sans": truth, "passtlsclientcert.info.serialnumber": truth, "passtlsclientcert.info.subject.*": truth,
		"passtlsclientcert.info.issuer.*": truth,
		"ratelimit.average":               count,
		"ratelimit.burst":                 count,
		"ratelimit.period":                ratePeriod,
		// The proxy keeps each source for longer than a period. An address is short; a header and a
		// host name are as long as the visitor chooses, so that there are no such criteria.
		"ratelimit.sourcecriterion.ipstrategy": truth, "ratelimit.sourcecriterion.ipstrategy.depth": count,
		"ratelimit.sourcecriterion.ipstrategy.excludedips": anyText, "ratelimit.sourcecriterion.ipstrategy.ipv6subnet": number(128),
		"redirectregex.regex":               pattern,
		"redirectregex.replacement":         anyText,
		"redirectregex.permanent":           truth,
		"redirectscheme.scheme":             word,
		"redirectscheme.port":               port,
		"redirectscheme.permanent":          truth,
		"replacepath.path":                  ownPath,
		"replacepathregex.regex":            pattern,
		"replacepathregex.replacement":      anyText,
		"retry.attempts":                    number(10),
		"retry.initialinterval":             anyPeriod,
		"stripprefix.prefixes":              anyText,
		"stripprefix.forceslash":            truth,
		"stripprefixregex.regex":            patterns,
		"headers.customrequestheaders.*":    anyText,
		"headers.customresponseheaders.*":   anyText,
		"headers.sslproxyheaders.*":         anyText,
		"headers.accesscontrolallowmethods": anyText, "headers.accesscontrolallowheaders": anyText, "headers.accesscontrolallowcredentials": truth,
		"headers.accesscontrolalloworiginlist": anyText, "headers.accesscontrolalloworiginlistregex": patterns, "headers.accesscontrolalloworigin": anyText,
		"headers.accesscontrolexposeheaders": anyText, "headers.accesscontrolmaxage": count, "headers.addvaryheader": truth,
		"headers.allowedhosts": anyText, "headers.hostsproxyheaders": anyText, "headers.browserxssfilter": truth, "headers.custombrowserxssvalue": anyText,
		"headers.contentsecuritypolicy": anyText, "headers.contentsecuritypolicyreportonly": anyText, "headers.contenttypenosniff": truth,
		"headers.customframeoptionsvalue": anyText, "headers.framedeny": truth, "headers.featurepolicy": anyText, "headers.permissionspolicy": anyText,
		"headers.referrerpolicy": anyText, "headers.publickey": anyText, "headers.isdevelopment": truth,
		"headers.sslredirect": truth, "headers.ssltemporaryredirect": truth, "headers.sslhost": anyText, "headers.sslforcehost": truth,
		"headers.stsseconds": count, "headers.stsincludesubdomains": truth, "headers.stspreload": truth, "headers.forcestsheader": truth,
	},
}

var indexed = regexp.MustCompile(`\[[0-9]{1,3}\]`)

// optionCheck returns the check of an option, and whether it is on the list.
func optionCheck(kind, option string) (labelCheck, bool) {
	table := optionTable[kind]
	option = indexed.ReplaceAllString(option, "[n]")
	if check, ok := table[option]; ok {
		return check, true
	}
	if i := strings.LastIndexByte(option, '.'); i > 0 && traefik.IsName(option[i+1:]) {
		if check, ok := table[option[:i]+".*"]; ok {
			return check, true
		}
	}
	return nil, false
}
