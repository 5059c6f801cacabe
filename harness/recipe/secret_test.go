package recipe_test

import (
	"bytes"
	"crypto/rand"
	"regexp"
	"strings"
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

func TestGenerateSecret(t *testing.T) {
	cases := map[string]struct {
		secret recipe.Secret
		want   string
	}{
		"passphrase":      {recipe.Secret{}, `^([a-z]{6}-){5}[a-z]{6}$`},
		"length":          {recipe.Secret{Length: 128}, `^[a-zA-Z0-9]{128}$`},
		"hex":             {recipe.Secret{Length: 64, Charset: "hex"}, `^[0-9a-f]{64}$`},
		"unknown charset": {recipe.Secret{Length: 32, Charset: "emoji"}, `^[a-zA-Z0-9]{32}$`},
		"alnum":           {recipe.Secret{Length: 1, Charset: "alnum"}, `^[a-zA-Z0-9]$`},
		"special":         {recipe.Secret{Length: 50, Charset: "special"}, `^[^a-zA-Z0-9\s\\]{50}$`},
		"combined":        {recipe.Secret{Length: 999, Charset: "default,safespecial"}, `^[a-zA-Z0-9!@#%^&*_+=-]{999}$`},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			c.secret.Generate = true
			a, err := recipe.GenerateSecret(c.secret, rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			if !regexp.MustCompile(c.want).MatchString(a.Reveal()) {
				t.Errorf("value %q does not match %s", a.Reveal(), c.want)
			}
			b, _ := recipe.GenerateSecret(c.secret, rand.Reader)
			if c.secret.Length != 1 && a == b {
				t.Error("two values are the same")
			}
		})
	}
}

// Every character of an alphabet is equally likely: 256 bytes of which the last 256%62
// are drawn again.
func TestGenerateSecretHasNoBias(t *testing.T) {
	var all bytes.Buffer
	for i := range 256 {
		all.WriteByte(byte(i))
	}
	value, err := recipe.GenerateSecret(recipe.Secret{Length: 248, Generate: true}, &all)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range value.Reveal() {
		if n := strings.Count(value.Reveal(), string(c)); n != 4 {
			t.Fatalf("%c is drawn %d times of 248, want 4", c, n)
		}
	}
}

func TestGenerateSecretErrors(t *testing.T) {
	_, err := recipe.GenerateSecret(recipe.Secret{Key: "mail"}, rand.Reader)
	wantError(t, err, ccci.CodeRecipe, "the secret mail is not generated")
	_, err = recipe.GenerateSecret(recipe.Secret{Key: "mail", Generate: true, Length: 5000}, rand.Reader)
	wantError(t, err, ccci.CodeRecipe, "5000 characters")
	_, err = recipe.GenerateSecret(recipe.Secret{Key: "mail", Generate: true}, strings.NewReader("short"))
	if err == nil || ccci.CodeOf(err) != ccci.CodeInfra || !strings.Contains(err.Error(), "mail") {
		t.Errorf("error %v", err)
	}
}
