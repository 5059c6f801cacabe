package firewall

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// Names of the tables, whose family is inet: nft list table inet cc-ci shows one.
const (
	Name       = "cc-ci"         // that of Rules
	DaemonName = "cc-ci-dockerd" // that of DaemonRules
)

// Table is a table in a network namespace.
type Table struct {
	Name string // Name, the default, or DaemonName
	// Namespace is a file that stands for a network namespace, as /run/netns/NAME. Default is
	// the namespace of this process.
	Namespace string
}

// chain is one that the kernel asks.
type chain struct {
	name     string
	hook     *nftables.ChainHook
	priority nftables.ChainPriority
}

func (t Table) chains() []chain {
	if t.name() == DaemonName {
		// Before the translation of addresses (-100), so that what is judged is where dockerd asks, and
		// after connections are looked up (-200).
		return []chain{{Output, nftables.ChainHookOutput, -110}}
	}
	// Before every filter chain of iptables and Docker (0), and after the translation of addresses, so
	// that what is judged is where a packet really goes.
	return []chain{{Input, nftables.ChainHookInput, -10}, {Forward, nftables.ChainHookForward, -10}}
}

func (t Table) name() string { return cmp.Or(t.Name, Name) }

// Differs says in what the table that is there is not the one with these rules; "" when in nothing.
func (t Table) Differs(rules []Rule) (why string, err error) {
	err = t.with(func(c *nftables.Conn) error {
		why, err = t.differs(c, rules)
		return err
	})
	return why, err
}

// Exists reports whether there is such a table, whatever is in it.
func (t Table) Exists() (there bool, err error) {
	err = t.with(func(c *nftables.Conn) error {
		table, err := t.find(c)
		there = table != nil
		return err
	})
	return there, err
}

// Install puts a table with these rules into the place of the one that is there, in one
// transaction: there is no moment without rules, nor with some of them.
func (t Table) Install(rules []Rule) error {
	return t.with(func(c *nftables.Conn) error {
		table := &nftables.Table{Name: t.name(), Family: nftables.TableFamilyINet}
		c.AddTable(table) // so that there is one to remove
		c.DelTable(table)
		c.AddTable(table)
		if err := addSets(c, table, rules); err != nil {
			return err
		}
		for _, chain := range t.chains() {
			accept := nftables.ChainPolicyAccept
			made := c.AddChain(&nftables.Chain{Name: chain.name, Table: table, Type: nftables.ChainTypeFilter,
				Hooknum: chain.hook, Priority: &chain.priority, Policy: &accept})
			for _, r := range of(rules, chain.name) {
				c.AddRule(&nftables.Rule{Table: table, Chain: made, Exprs: r.expressions()})
			}
		}
		return c.Flush()
	})
}

// setSize bounds the addresses of which the kernel keeps a state. An app has no right to give itself
// more of them.
const setSize = 65535

// rateMemory is how long the kernel keeps the rate of an address: by then it has all of its burst again.
const rateMemory = time.Minute

// setsOf returns the bounds of which the rules speak. Each has a set.
func setsOf(rules []Rule) []Bound {
	var all []Bound
	for _, r := range rules {
		if r.Over.Kind != "" && !slices.Contains(all, r.Over) {
			all = append(all, r.Over)
		}
	}
	return all
}

// addSets makes the sets of which the rules speak.
func addSets(c *nftables.Conn, table *nftables.Table, rules []Rule) error {
	for _, b := range setsOf(rules) {
		set := &nftables.Set{Table: table, Name: b.set(), KeyType: nftables.TypeIPAddr, Dynamic: true, Size: setSize}
		if b.IPv6 {
			set.KeyType = nftables.TypeIP6Addr
		}
		if b.Kind == Rate {
			set.HasTimeout, set.Timeout = true, rateMemory
		}
		if err := c.AddSet(set, nil); err != nil {
			return err
		}
	}
	return nil
}

// Text writes the table with these rules as nft reads it.
func (t Table) Text(rules []Rule) string {
	var b strings.Builder
	fmt.Fprintf(&b, "table inet %s {\n", t.name())
	for _, s := range setsOf(rules) {
		kind, flags := "ipv4_addr", "dynamic"
		if s.IPv6 {
			kind = "ipv6_addr"
		}
		if s.Kind == Rate {
			flags = "dynamic,timeout; timeout " + rateMemory.String()
		}
		fmt.Fprintf(&b, "\tset %s { type %s; size %d; flags %s; }\n", s.set(), kind, setSize, flags)
	}
	for _, chain := range t.chains() {
		fmt.Fprintf(&b, "\tchain %s {\n\t\ttype filter hook %s priority %d; policy accept;\n", chain.name, chain.name, chain.priority)
		for _, r := range of(rules, chain.name) {
			fmt.Fprintf(&b, "\t\t%s\n", r)
		}
		b.WriteString("\t}\n")
	}
	b.WriteString("}\n")
	return b.String()
}

// Remove takes the table away. Legal twice.
func (t Table) Remove() error {
	return t.with(func(c *nftables.Conn) error {
		table := &nftables.Table{Name: t.name(), Family: nftables.TableFamilyINet}
		c.AddTable(table)
		c.DelTable(table)
		return c.Flush()
	})
}

// find returns the table, nil for none.
func (t Table) find(c *nftables.Conn) (*nftables.Table, error) {
	tables, err := c.ListTablesOfFamily(nftables.TableFamilyINet)
	i := slices.IndexFunc(tables, func(other *nftables.Table) bool { return other.Name == t.name() })
	if i < 0 || err != nil {
		return nil, err
	}
	return tables[i], nil
}

func (t Table) differs(c *nftables.Conn, rules []Rule) (string, error) {
	table, err := t.find(c)
	if err != nil {
		return "", err
	}
	if table == nil {
		return "the table is not there", nil
	}
	if table.Flags != 0 { // dormant, for one
		return "it has flags", nil
	}
	all, err := c.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return "", err
	}
	have := map[string]*nftables.Chain{}
	for _, chain := range all {
		if chain.Table.Name == t.name() {
			have[chain.Name] = chain
		}
	}
	for _, want := range t.chains() {
		chain := have[want.name]
		switch {
		case chain == nil:
			return "chain " + want.name + " is not there", nil
		case chain.Type != nftables.ChainTypeFilter || chain.Hooknum == nil || *chain.Hooknum != *want.hook ||
			chain.Priority == nil || *chain.Priority != want.priority || chain.Policy == nil || *chain.Policy != nftables.ChainPolicyAccept:
			return "chain " + want.name + " is another one", nil
		}
		if why, err := rulesDiffer(c, chain, of(rules, want.name)); why != "" || err != nil {
			return why, err
		}
	}
	if len(have) > len(t.chains()) {
		return "it has a further chain", nil
	}
	return "", nil
}

func rulesDiffer(c *nftables.Conn, chain *nftables.Chain, want []Rule) (string, error) {
	have, err := c.GetRules(chain.Table, chain)
	if err != nil {
		return "", err
	}
	if len(have) != len(want) {
		return fmt.Sprintf("chain %s has %d rules, not %d", chain.Name, len(have), len(want)), nil
	}
	for i, r := range want {
		if !reflect.DeepEqual(readable(have[i].Exprs), readable(r.expressions())) {
			return fmt.Sprintf("rule %d of chain %s is not: %s", i+1, chain.Name, r), nil
		}
	}
	return "", nil
}

// readable leaves out what the library writes and does not read: which control group a socket has. What it
// is compared with stays.
func readable(all []expr.Any) []expr.Any {
	return slices.DeleteFunc(slices.Clone(all), func(e expr.Any) bool {
		_, socket := e.(*expr.Socket)
		return socket
	})
}

// of returns the rules of one chain.
func of(rules []Rule, chain string) []Rule {
	return slices.DeleteFunc(slices.Clone(rules), func(r Rule) bool { return r.Chain != chain })
}

// with calls do with a connection to the kernel, and says what the kernel's refusals mean.
func (t Table) with(do func(*nftables.Conn) error) error {
	err := t.connected(do)
	switch {
	case errors.Is(err, syscall.EPERM) || errors.Is(err, fs.ErrPermission):
		return ccci.Errorf(ccci.CodeInfra, "the kernel refuses to show or change its firewall: %w", err).
			WithHint("run it as root, or with the capability CAP_NET_ADMIN, in the host's own network namespace")
	case err != nil:
		return ccci.Errorf(ccci.CodeInfra, "asking the kernel for its firewall: %w", err).
			WithHint("the kernel needs nf_tables with the family inet and connection tracking: modprobe nf_tables nf_conntrack says more")
	}
	return nil
}

// answers is how much the kernel may answer at once, in bytes: some thousands of rules.
const answers = 4 << 20

func (t Table) connected(do func(*nftables.Conn) error) error {
	// The kernel answers each rule of a transaction before the first answer is read.
	room := func(c *netlink.Conn) error { return c.SetReadBuffer(answers) }
	options := []nftables.ConnOption{nftables.AsLasting(), nftables.WithSockOptions(room)}
	if t.Namespace != "" {
		namespace, err := os.Open(t.Namespace)
		if err != nil {
			return err
		}
		defer namespace.Close()
		options = append(options, nftables.WithNetNSFd(int(namespace.Fd())))
	}
	c, err := nftables.New(options...)
	if err != nil {
		return err
	}
	return errors.Join(do(c), c.CloseLasting())
}
