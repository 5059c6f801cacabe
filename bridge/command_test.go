package bridge_test

import (
	"slices"
	"strings"
	"testing"
	"unicode"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/bridge"
)

const fullSHA = "6f2c1c0de4a55b7d9b1c3f7a8e9d0c1b2a3f4e5d"

func TestA6_Commands(t *testing.T) {
	for body, want := range map[string]bridge.Command{
		"!testme":                      {Verb: bridge.VerbTest},
		"!testme ":                     {Verb: bridge.VerbTest},
		"!testme \t\r\n\n":             {Verb: bridge.VerbTest},
		"!testme stages=install":       {Verb: bridge.VerbTest, Options: ccci.Options{Stages: []ccci.StageName{ccci.StageInstall}}},
		"!testme stages=checks,backup": {Verb: bridge.VerbTest, Options: ccci.Options{Stages: []ccci.StageName{ccci.StageBackup, ccci.StageChecks}}},
		"!testme stages=backup,backup": {Verb: bridge.VerbTest, Options: ccci.Options{Stages: []ccci.StageName{ccci.StageBackup}}},
		"!testme from=1.2.0+3.4.5":     {Verb: bridge.VerbTest, Options: ccci.Options{From: "1.2.0+3.4.5"}},
		"!testme " + fullSHA:           {Verb: bridge.VerbTest, SHA: fullSHA},
		"!testme " + strings.ToUpper(fullSHA) + "\tfrom=v1": {Verb: bridge.VerbTest, SHA: fullSHA, Options: ccci.Options{From: "v1"}},
		"!testme 1234567":                 {Verb: bridge.VerbTest, SHA: "1234567"},
		"!testme --quick":                 {Verb: bridge.VerbTest, Options: ccci.Options{Quick: true}},
		"!testme quick":                   {Verb: bridge.VerbTest, Options: ccci.Options{Quick: true}},
		"!testme " + fullSHA + " --quick": {Verb: bridge.VerbTest, SHA: fullSHA, Options: ccci.Options{Quick: true}},
		"!help":                           {Verb: bridge.VerbHelp},
		"!Help":                           {Verb: bridge.VerbHelp}, // what starts nothing is forgiven its case
		"!STATUS":                         {Verb: bridge.VerbStatus},
		"!Cancel ":                        {Verb: bridge.VerbCancel},
		"!status\n":                       {Verb: bridge.VerbStatus},
		"!cancel":                         {Verb: bridge.VerbCancel},
		"!retest          ":               {Verb: bridge.VerbRetest},
	} {
		got := bridge.Parse(body)
		if got.Kind != bridge.IsCommand || got.Command.Verb != want.Verb || got.Command.SHA != want.SHA ||
			got.Command.Options.From != want.Options.From || got.Command.Options.Quick != want.Options.Quick || !slices.Equal(got.Command.Options.Stages, want.Options.Stages) {
			t.Errorf("Parse(%q) = %+v, want %+v", body, got, want)
		}
	}
}

// Talk among people: it starts nothing and gets no answer.
func TestA6_WhatIsNoCommand(t *testing.T) {
	for _, body := range []string{
		"", " ", "\n", "testme", "!", "!!", "!testmexyz", "!deploy", "!nice", "!important: merge this", "![testme](x)", "! ", "!<b>",
		"\t!testme", "    !testme", // indented code
		"`!testme`", "``!testme``", "```\n!testme\n```", "~~~\n!testme\n~~~", "please write `!testme`",
		"> !testme", ">!testme", "On Monday ada wrote:\n> !testme", "> !testme\n\nthanks",
		"<!-- !testme -->", "<b>!testme</b>", "&#33;testme", "\\!testme", "[!testme](x)", "# !testme", "- !testme", "1. !testme", "| !testme |", "**!testme**", "/testme",
		"when this is merged you can write !testme again", "a\n!testme\nb", "it is !testmexyz",
	} {
		if got := bridge.Parse(body); got.Kind != bridge.Ignore || got.Reply != "" {
			t.Errorf("Parse(%q) = %+v, want it ignored", body, got)
		}
	}
}

// What was meant as a command and is none starts nothing (A6, ruling 3), and its answer
// has the line to write.
func TestN5_NearMisses(t *testing.T) {
	const alone, small = "A command has to be the whole comment", "in small letters"
	for body, want := range map[string]struct{ why, line string }{
		"!Testme":                     {small, "!testme"},
		"!TESTME stages=install":      {small, "!testme stages=install"},
		"!Retest":                     {small, "!retest"},
		"!satus":                      {"`!satus` is not a command, so nothing was done. The nearest one is `!status`.", "!status"},
		"!tesme":                      {"`!tesme` is not a command, so nothing was started. The nearest one is `!testme`.", "!testme"},
		"!test from=1.0.0":            {"`!test` is not", "!testme from=1.0.0"},
		"!test this please":           {"`!test` is not", "!testme"},
		"!cancle":                     {"`!cancle` is not", "!cancel"},
		"!Halp":                       {"`!Halp` is not", "!help"},
		"!testme\n\nthanks!":          {alone, "!testme"},
		"!testme\r\nx":                {alone, "!testme"},
		"!testme\n!testme":            {alone, "!testme"},
		"!testme --quick\n\nthanks":   {alone, "!testme --quick"},
		"!help\n\nthanks":             {alone, "!help"},
		"thanks\n!testme":             {alone, "!testme"},
		"Rebased.\n\nPlease !testme":  {alone, "!testme"},
		"please !testme":              {alone, "!testme"},
		"Can you !Testme, please?":    {alone, "!testme"},
		"@bot !testme":                {alone, "!testme"},
		"été: !testme":                {alone, "!testme"},
		" !testme":                    {alone, "!testme"},
		"\n!testme":                   {alone, "!testme"},
		"!!testme":                    {alone, "!testme"},
		"! testme":                    {alone, "!testme"},
		"!testme!":                    {alone, "!testme"},
		"!testme.":                    {alone, "!testme"},
		"!testme,please":              {alone, "!testme"},
		"!testme > x":                 {alone, "!testme"},
		"!testme <!-- x -->":          {alone, "!testme"},
		"!testme `stages=install`":    {alone, "!testme"},
		"!testme\u200b":               {alone, "!testme"},
		"!testme\u00a0":               {alone, "!testme"},
		"!test\u200bme":               {"`!test` is not", "!testme"},
		"!testm\u0435":                {"`!testm` is not", "!testme"},
		"!testme \u202efrom=1":        {alone, "!testme"},
		"!testme stages=inst\u00e4ll": {alone, "!testme"},
		"!testme\x00":                 {alone, "!testme"},
		"!testme\x1b[0m":              {alone, "!testme"},
		"!testme\v":                   {alone, "!testme"},
		"!testme " + strings.Repeat("x", bridge.MaxLine): {alone, "!testme"},
	} {
		got := bridge.Parse(body)
		if got.Kind != bridge.IsNear || !strings.Contains(got.Reply, want.why) || !strings.Contains(got.Reply, "\n"+want.line+"\n") || !strings.HasPrefix(want.line, string(got.Command.Verb)) {
			t.Errorf("Parse(%q) = %+v, want an answer with %q and the line %q", body, got, want.why, want.line)
		}
	}
}

func TestN5_Replies(t *testing.T) {
	for body, want := range map[string]string{
		"!testme stagse=install":          "Did you mean `stages`",
		"!testme --stages=install":        "Did you mean `stages`",
		"!testme Stages=install":          "Did you mean `stages`",
		"!testme form=1.0.0":              "Did you mean `from`",
		"!testme stages=instal":           "Did you mean `install`",
		"!testme stages=x":                "`x` is not a stage",
		"!testme stages=":                 "names no stage",
		"!testme stages=install,":         "names no stage",
		"!testme stages=backup stages=x":  "given twice",
		"!testme foo":                     "`foo` is not an option of `!testme`",
		"!testme --quikc":                 "as in `--quick`",
		"!testme quick=yes":               "as in `--quick`",
		"!testme --quick quick":           "`--quick` is given twice",
		"!testme --quick stages=install":  "neither `stages=` nor `from=`",
		"!testme from=1.0 quick":          "neither `stages=` nor `from=`",
		"!testme stages=install from=1.0": "leaves the upgrade out",
		"!retest --quick":                 "takes no options",
		"!testme please":                  "`please` is not an option",
		"!testme @everyone":               "`@everyone` is not an option",
		"!testme sha=" + fullSHA:          "is not an option",
		"!testme " + fullSHA + " 1234567": "given twice",
		"!testme abc123":                  "`abc123` is not an option",
		"!testme from=":                   "is not a version",
		"!testme from=--upload-pack=x":    "is not a version",
		"!testme from=a..b":               "is not a version",
		"!testme from=$(id)":              "is not a version",
		"!help me":                        "takes no options",
		"!cancel all":                     "takes no options",
		"!retest stages=install":          "takes no options",
	} {
		got := bridge.Parse(body)
		if got.Kind != bridge.IsReply || !strings.Contains(got.Reply, want) || !strings.HasPrefix(body, string(got.Command.Verb)) {
			t.Errorf("Parse(%q) = %+v, want a reply with %q", body, got, want)
		}
	}
}

func TestN5_HelpComesFromTheParsersTable(t *testing.T) {
	help := bridge.Help()
	for _, want := range []string{"!testme", "!retest", "!status", "!cancel", "!help", "stages=a,b", "from=VERSION", "--quick", "COMMIT"} {
		if !strings.Contains(help, "`"+want) {
			t.Errorf("the help lacks %q:\n%s", want, help)
		}
	}
	if got := bridge.Parse(help); got.Kind != bridge.Ignore {
		t.Error("the help itself is a command")
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"!testme", "!testme stages=install from=1.0 " + fullSHA, "!testme stagse=install", "!help", "!cancel\n", "`!testme`", "!testme\u200b", "please !Testme", "!satus\n\nthanks"} {
		f.Add(s + " --quick")
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, body string) {
		got := bridge.Parse(body)
		if got.Kind == bridge.Ignore {
			if got.Reply != "" || got.Command.Verb != "" {
				t.Errorf("Parse(%q) is half ignored: %+v", body, got)
			}
			return
		}
		if bridge.Parse(got.Reply).Kind != bridge.Ignore {
			t.Errorf("the reply to %q is itself a command: %q", body, got.Reply)
		}
		if got.Kind == bridge.IsNear {
			if got.Reply == "" || len(got.Reply) > 1000 {
				t.Errorf("Parse(%q) = %+v", body, got)
			}
			return
		}
		if !strings.HasPrefix(body, "!") || strings.ContainsAny(strings.TrimSpace(body), "\n`<>") || len(body) == 0 {
			t.Errorf("Parse(%q) = %+v, want it ignored", body, got)
		}
		for _, r := range body {
			if r > unicode.MaxASCII || (r < ' ' && !strings.ContainsRune("\t\r\n", r)) {
				t.Errorf("Parse(%q) heeds a comment with %U", body, r)
			}
		}
		if (got.Kind == bridge.IsReply) != (got.Reply != "") || len(got.Reply) > 4000 {
			t.Errorf("Parse(%q) = %+v", body, got)
		}
	})
}
