package ccci_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// What was posted is found again by its tag, and by nothing that only looks like it.
func TestN2_CommentTags(t *testing.T) {
	tag, other := ccci.TagOfKey("run/1/comment"), ccci.TagOfKey("run/2/comment")
	if len(tag) != 32 || tag == other {
		t.Errorf("the tags of two keys are %q and %q", tag, other)
	}
	for _, body := range []string{"", "passed", "a\n\n", "an old one " + other.AppendTo("")} {
		with := tag.AppendTo(body)
		if !strings.HasPrefix(with, body) || ccci.TagOfBody(with) != tag || ccci.TagOfBody(with+" \r\n") != tag {
			t.Errorf("%q becomes %q, with the tag %q", body, with, ccci.TagOfBody(with))
		}
	}
	for _, body := range []string{"", "passed", tag.AppendTo("x") + "more", "<!-- cc-ci: -->", "<!-- cc-ci:" + string(tag[1:]) + " -->", "<!-- cc-ci:" + strings.Repeat("g", 32) + " -->"} {
		if got := ccci.TagOfBody(body); got != "" {
			t.Errorf("%q has the tag %q", body, got)
		}
	}
	if got := ccci.CommentTag("").AppendTo("x"); got != "x" {
		t.Errorf("without a tag x becomes %q", got)
	}
}

func TestShortBody(t *testing.T) {
	tag := ccci.TagOfKey("k")
	for _, same := range []string{"", "!testme", tag.AppendTo(strings.Repeat("x", 4000))} {
		if got := ccci.ShortBody(same); got != same {
			t.Errorf("a body of %d bytes became one of %d", len(same), len(got))
		}
	}
	for _, long := range []string{"!testme" + strings.Repeat(" ", 1<<20), strings.Repeat("😀", 1<<18)} {
		got := ccci.ShortBody(tag.AppendTo(long))
		if len(got) > 4<<10+10 || got[:4] != long[:4] || ccci.TagOfBody(got) != tag || !strings.Contains(got, "\n…\n") || !utf8.ValidString(got) {
			t.Errorf("a body of %d bytes became one of %d: %.20q", len(long), len(got), got)
		}
	}
}
