package admission

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	tmpl "text/template/parse"
)

// Swarm and dockerd evaluate Go templates in environments, host names, mounts, tags of
// logs, and configs with a template driver, within the daemon and without a bound: a
// template that calls another twice doubles with each level. So only actions are
// admitted whose output is about as long as their text.

// Bounds of one template.
const (
	maxActions      = 500
	maxParens       = 200
	maxTemplateSize = 4 << 20 // bytes of output
	maxSecretOutput = 8 << 10 // bytes that a secret with a generated value has at most
)

// taskFields are what swarm knows of a task, containerFields what a log driver knows.
var (
	taskFields = []string{
		".Service.ID", ".Service.Name", ".Node.ID", ".Node.Hostname", ".Node.Platform.OS", ".Node.Platform.Architecture",
		".Task.ID", ".Task.Name", ".Task.Slot",
	}
	// nameFields leave out the node, whose name could make that of a service of cc-ci.
	nameFields      = []string{".Service.ID", ".Service.Name", ".Task.ID", ".Task.Name", ".Task.Slot"}
	containerFields = []string{".ID", ".FullID", ".Name", ".ImageID", ".ImageFullID", ".ImageName", ".DaemonName"}
)

// fieldTemplate returns nil when every action of a text is one of fields.
func fieldTemplate(text string, fields []string) error {
	p := &templateProver{fields: fields}
	return p.prove(text)
}

// configTemplate returns how long the output of a template of a config or secret can be, and an error when
// the template is not bounded: it may ask conditions and print variables, secrets, configs and fields of the
// task. output says how long what a function returns can be.
func configTemplate(text string, output func(function string) int) (size int, err error) {
	p := &templateProver{fields: taskFields, config: true, output: output, size: len(text)}
	err = p.prove(text)
	return p.size, err
}

type templateProver struct {
	fields []string
	config bool
	output func(function string) int
	size   int // bytes of output so far
	held   int // bytes that the longest variable or dot can hold
	within int // conditions of with around the node: outside, the dot is all that swarm knows
}

func (p *templateProver) prove(text string) error {
	if !strings.Contains(text, "{{") {
		return nil
	}
	if n := strings.Count(text, "{{"); n > maxActions {
		return fmt.Errorf("it has %d actions, and may have %d", n, maxActions)
	}
	if strings.Count(text, "(") > maxParens && deepest(text) > maxParens {
		return fmt.Errorf("its parentheses are nested too deep")
	}
	tree := tmpl.New("t")
	tree.Mode = tmpl.SkipFuncCheck
	set := map[string]*tmpl.Tree{}
	if _, err := tree.Parse(text, "", "", set); err != nil {
		return fmt.Errorf("it is no template")
	}
	for _, other := range set {
		if other != tree {
			return fmt.Errorf("it defines templates of its own")
		}
	}
	if tree.Root == nil {
		return nil
	}
	return p.list(tree.Root)
}

// deepest returns how deep parentheses of a text are nested.
func deepest(text string) int {
	depth, most := 0, 0
	for i := range len(text) {
		switch text[i] {
		case '(':
			depth++
			most = max(most, depth)
		case ')':
			depth = max(depth-1, 0)
		case '}':
			depth = 0
		}
	}
	return most
}

func (p *templateProver) list(list *tmpl.ListNode) error {
	if list == nil {
		return nil
	}
	for _, n := range list.Nodes {
		if err := p.node(n); err != nil {
			return err
		}
		if p.size > maxTemplateSize {
			return fmt.Errorf("it can become longer than %d KiB", maxTemplateSize>>10)
		}
	}
	return nil
}

func (p *templateProver) node(n tmpl.Node) error {
	switch n := n.(type) {
	case *tmpl.TextNode, *tmpl.CommentNode:
		return nil
	case *tmpl.ActionNode:
		return p.pipe(n.Pipe, false)
	case *tmpl.IfNode:
		return p.branch(&n.BranchNode, false)
	case *tmpl.WithNode:
		return p.branch(&n.BranchNode, true) // the dot holds its value
	}
	return fmt.Errorf("it holds %s, which a run does not evaluate", short(n.String()))
}

func (p *templateProver) branch(b *tmpl.BranchNode, kept bool) error {
	if !p.config {
		return fmt.Errorf("it holds a condition, and only fields are evaluated here")
	}
	if err := p.pipe(b.Pipe, kept); err != nil {
		return err
	}
	if kept {
		p.within++
	}
	err := p.list(b.List)
	if kept {
		p.within--
	}
	if err != nil {
		return err
	}
	return p.list(b.ElseList)
}

// compared and plainFunctions return what is no longer than their arguments together.
var (
	compared       = []string{"eq", "ne", "lt", "le", "gt", "ge", "and", "or", "not", "len"}
	plainFunctions = []string{"print", "println", "join", "printf"}
	read           = []string{"env", "secret", "config"}
	plainFormat    = regexp.MustCompile(`^(?:[^%]|%[sdvq%])*$`)
)

func (p *templateProver) pipe(pipe *tmpl.PipeNode, kept bool) error {
	if pipe == nil {
		return nil
	}
	if !p.config && (len(pipe.Cmds) != 1 || len(pipe.Decl) != 0) {
		return fmt.Errorf("it holds %s, and only fields are evaluated here", short(pipe.String()))
	}
	for _, cmd := range pipe.Cmds {
		if err := p.command(cmd, kept || len(pipe.Decl) > 0); err != nil {
			return err
		}
	}
	return nil
}

// command proves one command. One whose value a variable keeps may not put texts
// together: variables that are made of variables double with each line.
func (p *templateProver) command(cmd *tmpl.CommandNode, kept bool) error {
	if len(cmd.Args) == 0 {
		return nil
	}
	args := cmd.Args
	if name, ok := args[0].(*tmpl.IdentifierNode); ok {
		if !p.config {
			return fmt.Errorf("it calls %s, and only fields are evaluated here", short(name.Ident))
		}
		args = args[1:]
		switch {
		case slices.Contains(read, name.Ident):
			return p.reads(name.Ident, args)
		case slices.Contains(compared, name.Ident):
		case slices.Contains(plainFunctions, name.Ident) && !kept:
			if err := printed(name.Ident, args); err != nil {
				return err
			}
		default:
			return fmt.Errorf("it calls %s, which a run does not evaluate", short(name.Ident))
		}
	} else if !p.config && len(args) > 1 {
		return fmt.Errorf("it holds %s, and only fields are evaluated here", short(cmd.String()))
	}
	for _, arg := range args {
		if err := p.argument(arg, kept); err != nil {
			return err
		}
	}
	return nil
}

// printed refuses formats with a width: %1000000000d is a gigabyte.
func printed(function string, args []tmpl.Node) error {
	if function != "printf" {
		return nil
	}
	if len(args) > 0 {
		if format, ok := args[0].(*tmpl.StringNode); ok && plainFormat.MatchString(format.Text) {
			return nil
		}
	}
	return fmt.Errorf("it calls printf with a format that is not made of %%s, %%d, %%v and %%q")
}

// reads proves a call of env, secret or config: with one plain text.
func (p *templateProver) reads(function string, args []tmpl.Node) error {
	if len(args) != 1 {
		return fmt.Errorf("it calls %s with %d arguments", function, len(args))
	}
	if _, ok := args[0].(*tmpl.StringNode); !ok {
		return fmt.Errorf("it calls %s with something else than a plain text", function)
	}
	n := p.output(function)
	p.size += n
	p.held = max(p.held, n)
	return nil
}

func (p *templateProver) argument(n tmpl.Node, kept bool) error {
	switch n := n.(type) {
	case *tmpl.FieldNode:
		if field := n.String(); !slices.Contains(p.fields, field) {
			return fmt.Errorf("it refers to %s, which is none of %s", short(field), strings.Join(p.fields, ", "))
		}
		p.size += 256
		return nil
	case *tmpl.StringNode, *tmpl.NumberNode, *tmpl.BoolNode:
		if p.config {
			return nil
		}
	case *tmpl.DotNode:
		if p.config && p.within > 0 {
			p.size += p.held
			return nil
		}
	case *tmpl.VariableNode:
		if p.config && len(n.Ident) == 1 && n.Ident[0] != "$" { // $ is all that swarm knows
			p.size += p.held
			return nil
		}
	case *tmpl.PipeNode:
		if p.config && len(n.Decl) == 0 {
			for _, cmd := range n.Cmds {
				if err := p.command(cmd, kept); err != nil {
					return err
				}
			}
			return nil
		}
	}
	return fmt.Errorf("it holds %s, which a run does not evaluate", short(n.String()))
}

// templates judges every text of the model that the daemon evaluates.
func (j *judge) templates() {
	longest := maxSecretOutput
	for i := range j.stack.Config.Services {
		s := &j.stack.Config.Services[i]
		if j.large[s.Name] {
			continue
		}
		fields := func(key, text string, allowed []string, path ...string) {
			if err := fieldTemplate(text, allowed); err != nil {
				j.refuse(ruleTemplate, s.Name, key, j.locate(text, append([]string{"services", s.Name}, path...)...),
					"write the value itself; of a task there are "+strings.Join(allowed, ", "), "has a template as its %s that cannot be admitted: %s", key, err)
			}
		}
		for _, key := range sorted(s.Environment) {
			if v := s.Environment[key]; v != nil {
				fields("variable "+key, key+"="+*v, taskFields, "environment")
				longest = max(longest, len(*v))
			} else {
				fields("variable "+key, key, nil, "environment")
			}
		}
		fields("hostname", s.Hostname, nameFields, "hostname")
		for _, m := range s.Volumes {
			fields("mount", m.Source, nil, "volumes")
			fields("mount", m.Target, nil, "volumes")
			if m.Volume != nil {
				fields("mount", m.Volume.Subpath, nil, "volumes")
			}
		}
		if s.Logging != nil {
			for _, key := range sorted(s.Logging.Options) {
				fields("logging option "+key, s.Logging.Options[key], containerFields, "logging")
			}
		}
	}
	for _, key := range sorted(j.stack.Config.Volumes) {
		v := j.stack.Config.Volumes[key]
		for _, texts := range []map[string]string{v.Labels, v.DriverOpts} {
			for _, name := range sorted(texts) {
				if fieldTemplate(name+texts[name], nil) != nil {
					j.refuse(ruleTemplate, "", key, j.locate(name, "volumes", key), "", "has a template in the volume %s", key)
				}
			}
		}
	}
	j.configTemplates(longest)
}

// configTemplates judges configs and secrets with a template driver.
func (j *judge) configTemplates(longest int) {
	output := func(function string) int {
		switch function {
		case "config":
			n := 0
			for _, data := range j.stack.ConfigData {
				n = max(n, len(data))
			}
			return n
		case "secret":
			n := maxSecretOutput
			for _, data := range j.stack.SecretData {
				n = max(n, len(data))
			}
			return n
		}
		return longest
	}
	one := func(kind, key, driver string, data []byte) {
		j.contents[object{kind, key}] = len(data)
		if driver == "" {
			return
		}
		size, err := configTemplate(string(data), output)
		j.contents[object{kind, key}] = size
		if err != nil {
			j.refuse(ruleTemplate, "", key, j.locate("", kind+"s", key), `conditions, {{ env "X" }}, {{ secret "x" }} and {{ config "x" }} are evaluated`,
				"has the %s %s with a template that cannot be admitted: %s", kind, key, err)
		}
	}
	for _, key := range sorted(j.stack.Config.Configs) {
		one("config", key, j.stack.Config.Configs[key].TemplateDriver, j.stack.ConfigData[key])
	}
	for _, key := range sorted(j.stack.Config.Secrets) {
		one("secret", key, j.stack.Config.Secrets[key].TemplateDriver, j.stack.SecretData[key])
		if j.stack.Config.Secrets[key].External.External {
			j.contents[object{"secret", key}] = maxSecretOutput
		}
	}
}
