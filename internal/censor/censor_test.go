package censor

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"net/url"
	"strings"
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
)

const value = "s3cr3t/with+odd=chars&more"

func TestU17_MasksEveryEncoding(t *testing.T) {
	var c Censor
	c.Add("db_password", ccci.NewSecret(value))
	for name, text := range map[string]string{
		"plain":          "password is " + value + ".",
		"url":            "q=" + url.QueryEscape(value),
		"hex":            hex.EncodeToString([]byte(value)),
		"base64 alone":   base64.StdEncoding.EncodeToString([]byte(value)),
		"base64 shifted": base64.StdEncoding.EncodeToString([]byte("user:" + value + ":tail")),
		"base64 by two":  base64.StdEncoding.EncodeToString([]byte("ab" + value + "x")),
		"json":           `{"p":"s3cr3t/with+odd=chars\u0026more"}`,
	} {
		if found := c.Find([]byte(text)); len(found) != 1 || found[0] != "db_password" {
			t.Errorf("%s: found %v", name, found)
		}
		if masked := c.MaskString(text); !strings.Contains(masked, "***") {
			t.Errorf("%s: %q is not masked", name, masked)
		}
	}
	if got := c.MaskString("nothing here"); got != "nothing here" {
		t.Errorf("masked %q", got)
	}
}

func TestU17_ShortValuesAreNoSecrets(t *testing.T) {
	var c Censor
	c.Add("short", ccci.NewSecret("admin"))
	if got := c.MaskString("the admin page"); got != "the admin page" {
		t.Errorf("got %q", got)
	}
}

func TestU17_WriterFindsSecretsSplitOverWrites(t *testing.T) {
	var c Censor
	c.Add("k", ccci.NewSecret(value))
	for _, size := range []int{1, 3, 7, 1000} {
		for _, pad := range []int{0, windowSize - 10, 3 * windowSize} {
			var out bytes.Buffer
			w := c.NewWriter(&out)
			text := []byte(strings.Repeat("x", pad) + "a " + value + " b\nlast " + value)
			for len(text) > 0 {
				n := min(size, len(text))
				if _, err := w.Write(text[:n]); err != nil {
					t.Fatal(err)
				}
				text = text[n:]
				if size < 1000 && pad > 0 && len(text) > 200 { // the padding in one go, or this takes quadratic time
					if _, err := w.Write(text[:len(text)-200]); err != nil {
						t.Fatal(err)
					}
					text = text[len(text)-200:]
				}
			}
			if err := w.Flush(); err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(out.Bytes(), []byte("s3cr3t")) || bytes.Count(out.Bytes(), []byte("***")) != 2 {
				t.Errorf("size %d, pad %d: %q", size, pad, out.Bytes()[max(0, out.Len()-100):])
			}
		}
	}
}
