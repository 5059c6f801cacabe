package firewall

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"syscall"

	"github.com/google/nftables"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// Name is that of the table, whose family is inet: nft list table inet cc-ci shows it.
const Name = "cc-ci"

// Table is the table in a network namespace.
type Table struct {
	// Namespace is a file that stands for a network namespace, as /run/netns/NAME. Default is
	// the namespace of this process.
	Namespace string
}

// priority comes before every filter chain of iptables and Docker (0), and after the translation of
// addresses (-100), so that what is judged is where a packet really goes.
var priority = nftables.ChainPriority(-10)

var chains = []struct {
	name string
	hook *nftables.ChainHook
}{{Input, nftables.ChainHookInput}, {Forward, nftables.ChainHookForward}}

// Differs says in what the table that is there is not the one with these rules; "" when in nothing.
func (t Table) Differs(rules []Rule) (why string, err error) {
	err = t.with(func(c *nftables.Conn) error {
		why, err = differs(c, rules)
		return err
	})
	return why, err
}

// Exists reports whether there is such a table, whatever is in it.
func (t Table) Exists() (there bool, err error) {
	err = t.with(func(c *nftables.Conn) error {
		table, err := find(c)
		there = table != nil
		return err
	})
	return there, err
}

// Install puts a table with these rules into the place of the one that is there, in one
// transaction: there is no moment without rules, nor with some of them.
func (t Table) Install(rules []Rule) error {
	return t.with(func(c *nftables.Conn) error {
		table := &nftables.Table{Name: Name, Family: nftables.TableFamilyINet}
		c.AddTable(table) // so that there is one to remove
		c.DelTable(table)
		c.AddTable(table)
		for _, chain := range chains {
			accept := nftables.ChainPolicyAccept
			made := c.AddChain(&nftables.Chain{Name: chain.name, Table: table, Type: nftables.ChainTypeFilter,
				Hooknum: chain.hook, Priority: &priority, Policy: &accept})
			for _, r := range of(rules, chain.name) {
				c.AddRule(&nftables.Rule{Table: table, Chain: made, Exprs: r.expressions()})
			}
		}
		return c.Flush()
	})
}

// Remove takes the table away. Legal twice.
func (t Table) Remove() error {
	return t.with(func(c *nftables.Conn) error {
		table := &nftables.Table{Name: Name, Family: nftables.TableFamilyINet}
		c.AddTable(table)
		c.DelTable(table)
		return c.Flush()
	})
}

// find returns the table, nil for none.
func find(c *nftables.Conn) (*nftables.Table, error) {
	tables, err := c.ListTablesOfFamily(nftables.TableFamilyINet)
	i := slices.IndexFunc(tables, func(t *nftables.Table) bool { return t.Name == Name })
	if i < 0 || err != nil {
		return nil, err
	}
	return tables[i], nil
}

func differs(c *nftables.Conn, rules []Rule) (string, error) {
	table, err := find(c)
	if err != nil {
		return "", err
	}
	if table == nil {
		return "it is not there", nil
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
		if chain.Table.Name == Name {
			have[chain.Name] = chain
		}
	}
	for _, want := range chains {
		chain := have[want.name]
		switch {
		case chain == nil:
			return "chain " + want.name + " is not there", nil
		case chain.Type != nftables.ChainTypeFilter || chain.Hooknum == nil || *chain.Hooknum != *want.hook ||
			chain.Priority == nil || *chain.Priority != priority || chain.Policy == nil || *chain.Policy != nftables.ChainPolicyAccept:
			return "chain " + want.name + " is another one", nil
		}
		if why, err := rulesDiffer(c, chain, of(rules, want.name)); why != "" || err != nil {
			return why, err
		}
	}
	if len(have) > len(chains) {
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
		if !reflect.DeepEqual(have[i].Exprs, r.expressions()) {
			return fmt.Sprintf("rule %d of chain %s is not: %s", i+1, chain.Name, r), nil
		}
	}
	return "", nil
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

func (t Table) connected(do func(*nftables.Conn) error) error {
	options := []nftables.ConnOption{nftables.AsLasting()}
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
