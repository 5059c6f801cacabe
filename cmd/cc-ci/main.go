// Command cc-ci turns one pull-request comment into a real deployment of a
// Co-op Cloud recipe, and says on the pull request how it went.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"syscall"

	"github.com/alecthomas/kong"
	kongcompletion "github.com/jotaen/kong-completion"
	"github.com/sirupsen/logrus"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/censor"
	"github.com/recipe-maintainers/cc-ci/internal/config"
	"github.com/recipe-maintainers/cc-ci/internal/plain"
)

// Exit codes are an API: scripts and engines read them.
const (
	exitPassed  = 0
	exitFailed  = 1 // the recipe's fault
	exitUsage   = 2 // usage or configuration
	exitInfra   = 3 // our infrastructure
	exitRefused = 4 // understood and not allowed

	exitInconclusive = 5 // the time of the run was up, or the base that was asked for does not install
	exitFlaky        = 6 // a check failed and then passed
	exitUnfinished   = 7 // status of a run that waits or is at work

	exitInterrupt = 130
	exitUnread    = 141 // the reader of the output went away
	exitTerminate = 143
)

const description = `cc-ci tests Co-op Cloud recipes by really deploying them.

Exit codes: 0 passed, 1 the recipe failed, 2 usage or configuration, 3 infrastructure
error, 4 refused, 5 inconclusive (the time of the run was up, or the base that was asked for does not install), 6 flaky (a check failed and then passed), 7 not finished (status RUN), 130, 141 or 143 interrupted (after the teardown).`

type cli struct {
	Config string `short:"c" env:"CC_CI_CONFIG" placeholder:"FILE" help:"Configuration file; default: cc-ci.yml of the working directory, if it is there, else the defaults of cc-ci config doc."`

	Color string `enum:"auto,always,never" default:"auto" placeholder:"WHEN" help:"Colour what is printed: always, never, or auto, which is on a terminal unless NO_COLOR is set."`

	Demo    demoCmd    `cmd:"" help:"Show the whole thing on this machine: a pull request, !testme, a green run."`
	Run     runCmd     `cmd:"" help:"Test a recipe checkout by hand."`
	Repro   reproCmd   `cmd:"" help:"Repeat a run from its result, without a forge, and compare the verdicts."`
	Serve   serveCmd   `cmd:"" help:"Serve everything on this machine: forge, bridge, engine and dashboard."`
	Bridge  bridgeCmd  `cmd:"" help:"One half of serve: bridge, engine and janitor, without the dashboard."`
	Dash    dashCmd    `cmd:"" name:"dashboard" help:"The other half: the dashboard alone, which only reads."`
	Status  statusCmd  `cmd:"" help:"Show how the server is, a recipe or a run. With a run the exit code says how it ended."`
	Runs    runsCmd    `cmd:"" help:"List the runs of the server, the newest first."`
	Queue   queueCmd   `cmd:"" help:"List what runs and what waits."`
	Logs    logsCmd    `cmd:"" help:"Print the log of a run."`
	Cancel  cancelCmd  `cmd:"" help:"Cancel a run. The server tears it down and answers on the pull request."`
	Sweep   sweepCmd   `cmd:"" help:"Test what is newer than the last good version of each enrolled recipe, and promote what is green. For a timer."`
	Janitor janitorCmd `cmd:"" help:"Remove what dead runs left behind. Never touches a run that lives."`
	Prune   pruneCmd   `cmd:"" help:"Remove dangling images when Docker's disk is nearly full and no run lives."`
	Backup  backupCmd  `cmd:"" help:"Back up every stack on this machine whose labels ask for it. For a timer."`
	Enrol   enrolCmd   `cmd:"" help:"Prepare a repository: look whether it is seen and is a recipe, make its folder of tests, say what to configure."`
	Doctor  doctorCmd  `cmd:"" help:"Look whether everything that cc-ci needs is there: machine, secrets, forges, rights. Changes nothing."`
	Forge   forgeCmd   `cmd:"" help:"The local forge: repositories, pull requests, comments."`
	Recipe  recipeCmd  `cmd:"" help:"Look at recipes without deploying them."`
	Secrets secretsCmd `cmd:"" help:"The encrypted secrets of the appliance."`
	Conf    configCmd  `cmd:"" name:"config" help:"The configuration."`
	Version versionCmd `cmd:"" help:"Print the version, the commit it was built from and its date."`

	Help         helpCmd          `cmd:"" help:"Show the help of a command."`
	Completion   completionCmd    `cmd:"" help:"Print the completion script of a shell."`
	Man          manCmd           `cmd:"" help:"Print the manual page, for man."`
	PrintVersion kong.VersionFlag `name:"version" help:"Print the version, the commit it was built from and its date."`

	ReconcileCommands reconcileCommands `embed:""`
}

// app is what every command is given.
type app struct {
	ctx            context.Context
	configPath     string // as it was typed, or found by config
	color          string // colorAuto, colorAlways or colorNever
	stdout, stderr io.Writer
}

func main() {
	// docker/cli's compose loader warns through this global logger of what package
	// recipe reports itself, with file and line.
	logrus.SetOutput(io.Discard)
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

func run(args []string, stdout, stderr io.Writer) int {
	if code, ours := contained(args, stderr); ours {
		return code
	}
	var c cli
	exited := -1
	parser := newParser(&c, stdout, stderr, func(code int) { exited = code })
	if kongcompletion.Register(parser); exited >= 0 { // a shell asks for completions
		return exited
	}
	if len(args) == 0 { // somebody looks around, or a script forgot something
		parser.Stdout = stderr
		_, _ = parser.Parse([]string{"--help"})
		return exitUsage
	}
	kctx, err := parser.Parse(args)
	if exited >= 0 { // --help, --version
		return exited
	}
	if err != nil {
		return exitCode(usageError(parser, err), stderr)
	}
	if err := emptyLists(kctx); err != nil {
		return exitCode(err, stderr)
	}
	err = kctx.Run(&app{ctx: context.Background(), configPath: c.Config, color: c.Color, stdout: stdout, stderr: stderr}, parser)
	return exitCode(err, stderr)
}

// newParser returns the command line's grammar. exit is called after --help.
func newParser(c *cli, stdout, stderr io.Writer, exit func(code int)) *kong.Kong {
	parser, err := kong.New(c, kong.Name("cc-ci"), kong.Description(description),
		kong.Writers(stdout, stderr), kong.Exit(exit), kong.Vars{"version": about()},
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}))
	if err != nil {
		panic(err) // the struct above is wrong; any test run shows it
	}
	parser.Model.HelpFlag.Help = "Show this help."
	return parser
}

// codeError is an ending that was already told; only its exit code is left.
type codeError int

func (e codeError) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// exitCode tells the person what went wrong and maps it to the exit code.
func exitCode(err error, stderr io.Writer) int {
	if err == nil {
		return exitPassed
	}
	var told codeError
	if errors.As(err, &told) {
		return int(told)
	}
	// An error may quote what a recipe or an app says.
	fmt.Fprintf(stderr, "cc-ci: %s\n", plain.Text(err.Error()))
	if hint := cmp.Or(ccci.HintOf(err), diskHint(err)); hint != "" {
		fmt.Fprintf(stderr, "hint: %s\n", plain.Text(hint))
	}
	switch ccci.CodeOf(err) {
	case ccci.CodeInvalid, ccci.CodeNotFound, ccci.CodeConflict:
		return exitUsage
	case ccci.CodeRefused:
		return exitRefused
	case ccci.CodeRecipe:
		return exitFailed
	}
	return exitInfra
}

// diskHint is the way out of a full disk, wherever it was met; "" for any other error.
func diskHint(err error) string {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return "free space on the disk of the folder that is named, or name another one; df -h shows how full each disk is"
	}
	return ""
}

// logger writes to standard error.
func (a *app) logger(c config.Config) *slog.Logger {
	level, _ := c.Level() // Read has checked it
	return slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: level}))
}

// maskingLogger is a logger for the process of one run. Its lines stand between those of the run's
// log, in the same form. What the run adds to secrets is masked in them: an engine puts them into
// the log of the build, which others read.
func maskingLogger(out io.Writer, level slog.Level) (log *slog.Logger, secrets *censor.Censor, flush func()) {
	secrets = &censor.Censor{}
	w := secrets.NewWriter(out)
	return slog.New(newLineHandler(w, level)), secrets, func() { _ = w.Flush() }
}
