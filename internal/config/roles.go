package config

import (
	"fmt"
	"slices"
	"strings"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/settings"
)

// Roles say who may use which command.
type Roles struct {
	Testme string `yaml:"testme" default:"member" doc:"Who may !testme and !retest: anyone, member, or numeric user ids, separated by commas. Ids beside member are admitted as well. With several forges an id has its forge's name before it, as git.example.org:7, and holds there alone."`
	Cancel string `yaml:"cancel" default:"member" doc:"Who may !cancel, likewise."`
	Ask    string `yaml:"ask" default:"anyone" doc:"Who may !help and !status, likewise."`
}

// Who may use a command.
const (
	Anyone = "anyone"
	Member = "member"
	Listed = "" // nobody but the listed users
)

// ParsedRole is one of Roles: who may, and who may besides.
type ParsedRole struct {
	Who   string
	Users []ForgeUser
}

// ForgeUser is a user of a forge. Without a forge's name it is one of the only forge there is:
// each forge numbers its users from 1, so that a number alone is another person elsewhere.
type ForgeUser struct{ Forge, ID string }

// On returns the ids of the users who may on one forge.
func (r ParsedRole) On(forge string) (ids []string) {
	for _, u := range r.Users {
		if u.Forge == "" || u.Forge == forge {
			ids = append(ids, u.ID)
		}
	}
	return ids
}

// ParseRole reads one of Roles. Ids are digits: names change hands.
func ParseRole(text string) (ParsedRole, error) {
	var role ParsedRole
	for _, word := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' }) {
		colon := strings.LastIndexByte(word, ':') // a forge's name may have a port
		id := word[colon+1:]
		switch {
		case word == Anyone || word == Member:
			if role.Who != Listed && role.Who != word {
				return ParsedRole{}, ccci.Errorf(ccci.CodeInvalid, "anyone and member exclude each other").WithHint("write one of them")
			}
			role.Who = word
		case colon != 0 && id != "" && strings.Trim(id, "0123456789") == "":
			role.Users = append(role.Users, ForgeUser{Forge: word[:max(colon, 0)], ID: id})
		default:
			hint := settings.Suggest(word, []string{Anyone, Member}, "an id is a number, as 7 or git.example.org:7; the forge shows it, names change hands")
			return ParsedRole{}, ccci.Errorf(ccci.CodeInvalid, "%q is neither anyone, member nor the id of a user", word).WithHint("%s", hint)
		}
	}
	if role.Who == Listed && role.Users == nil {
		return ParsedRole{}, ccci.Errorf(ccci.CodeInvalid, "this admits nobody").WithHint("write anyone, member, or ids of users")
	}
	return role, nil
}

// finishRoles checks who may do what. The forges have their names by then.
func (c *Config) finishRoles(bad complain) {
	var names []string
	for _, f := range c.AllForges() {
		names = append(names, f.Name)
	}
	for _, role := range []struct{ key, value string }{
		{"roles.testme", c.Roles.Testme}, {"roles.cancel", c.Roles.Cancel}, {"roles.ask", c.Roles.Ask},
	} {
		parsed, err := ParseRole(role.value)
		if err != nil {
			bad(role.key, ccci.HintOf(err), "%v", err)
			continue
		}
		for _, u := range parsed.Users {
			switch {
			case u.Forge == "" && len(names) > 1:
				bad(role.key, fmt.Sprintf("write %s:%s, with the name of the forge that is meant: %s", names[0], u.ID, list(names)),
					"user %s is another person on each of the %d forges", u.ID, len(names))
			case u.Forge != "" && !slices.Contains(names, u.Forge):
				bad(role.key, settings.Suggest(u.Forge, names, "the names of forges: "+strings.Join(names, ", ")), "there is no forge called %q", u.Forge)
			}
		}
	}
}
