package secretfile

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"
	"go.yaml.in/yaml/v4"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// edit changes an encrypted file as somebody without its key could.
func edit(t *testing.T, text []byte, change func(root *yaml.Node)) []byte {
	t.Helper()
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	change(doc.Content[0])
	out, err := emit(&doc)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestA29_TamperingIsRefusedByName(t *testing.T) {
	id := newIdentity(t)
	const plain = "token: aaaaaaaa\nother: bbbbbbbb\nopen_unencrypted: here\nnested:\n    deep: cccccccc\n"
	text := sealed1(t, plain, id)
	foreign := sealed1(t, plain, id)
	at := func(root *yaml.Node, key string) *yaml.Node { return find(root, strings.Split(key, "/")) }
	for name, c := range map[string]struct {
		change func(root *yaml.Node)
		want   string
	}{
		"a changed value": {func(r *yaml.Node) {
			n := at(r, "nested/deep")
			n.Value = strings.Replace(n.Value, "data:", "data:AAAA", 1)
		}, "secrets.yaml:5: nested/deep: it was changed"},
		"swapped values": {func(r *yaml.Node) {
			a, b := at(r, "token"), at(r, "other")
			a.Value, b.Value = b.Value, a.Value
		}, "secrets.yaml:1: token: it was changed, or belongs to another key"},
		"a swapped key": {func(r *yaml.Node) { r.Content[0].Value, r.Content[2].Value = "other", "token" }, "secrets.yaml:1: other: it was changed, or belongs to another key"},
		"a value of another file": {func(r *yaml.Node) {
			var o yaml.Node
			if err := yaml.Unmarshal(foreign, &o); err != nil {
				t.Error(err)
			}
			at(r, "token").Value = at(o.Content[0], "token").Value
		}, "secrets.yaml:1: token: it was changed, or belongs to another key or another file"},
		"a plain value":  {func(r *yaml.Node) { at(r, "token").Value = "mine" }, "secrets.yaml:1: token: it is not encrypted"},
		"an emptied one": {func(r *yaml.Node) { at(r, "token").Value = "" }, "a key was added, taken away or moved"},
		"a removed key":  {func(r *yaml.Node) { r.Content = r.Content[2:] }, "a key was added, taken away or moved since the file was encrypted: its keys now are other, open_unencrypted, nested/deep"},
		"an added key":   {func(r *yaml.Node) { r.Content = append([]*yaml.Node{str("more_unencrypted"), str("x")}, r.Content...) }, "a key was added, taken away or moved"},
		"keys reordered": {func(r *yaml.Node) {
			r.Content = append(slices.Clone(r.Content[2:4]), slices.Delete(slices.Clone(r.Content), 2, 4)...)
		}, "a key was added, taken away or moved"},
		"a visible value": {func(r *yaml.Node) { at(r, "open_unencrypted").Value = "there" }, "a key was added, taken away or moved"},
		"half a value":    {func(r *yaml.Node) { at(r, "token").Value = at(r, "token").Value[:60] }, "secrets.yaml:1: token: what is there is no whole encrypted value"},
		"an older MAC":    {func(r *yaml.Node) { at(r, "sops/lastmodified").Value = "2026-01-01T00:00:00Z" }, "sops/mac: it was changed"},
		"no MAC":          {func(r *yaml.Node) { at(r, "sops/mac").Value = "" }, "sops/mac: it is not encrypted"},
		"a visible rule":  {func(r *yaml.Node) { at(r, "sops/unencrypted_suffix").Value = "token" }, "secrets.yaml:3: open_unencrypted: it is not encrypted"},
		"another kind":    {func(r *yaml.Node) { n := at(r, "token"); n.Value = strings.Replace(n.Value, "type:str", "type:int", 1) }, "secrets.yaml:1: token: "},
		"a PGP recipient": {func(r *yaml.Node) {
			s := at(r, "sops")
			s.Content = append(s.Content, str("pgp"), &yaml.Node{Kind: yaml.SequenceNode, Content: []*yaml.Node{str("x")}})
		}, "sops: pgp is not understood"},
		"no metadata": {func(r *yaml.Node) { r.Content = r.Content[:len(r.Content)-2] }, "secrets.yaml is not encrypted"},
	} {
		t.Run(name, func(t *testing.T) {
			changed := edit(t, text, c.change)
			f, err := Open("secrets.yaml", changed, []age.Identity{id})
			if f != nil || ccci.CodeOf(err) != ccci.CodeInvalid || !strings.Contains(fmt.Sprint(err), c.want) || ccci.HintOf(err) == "" {
				t.Errorf("%v (hint %q)\n%s", err, ccci.HintOf(err), changed)
			}
		})
	}
	mustOpen(t, edit(t, text, func(*yaml.Node) {}), id) // the harness itself changes nothing
}

func str(text string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text}
}
