package recipe

import (
	"time"

	"github.com/docker/cli/cli/compose/types"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// Stack is one version of a recipe rendered for one app: the very model that
// admission judges and the deployer deploys.
type Stack struct {
	Name    string // swarm stack name: the domain with . as _
	Domain  string
	Recipe  string
	Version string      // of the recipe, from its version label; "" when it states none
	Commit  ccci.Commit // the commit of the checkout
	Dir     string      // root of the checkout, absolute
	Files   []string    // compose files, relative to Dir, in the order of COMPOSE_FILE
	Env     Env         // the app's env file with overrides, then abra.sh exports
	EnvFile []byte      // the app's env file as an operator's server would hold it
	Sample  Env         // .env.sample as this version has it, whatever the app's env file is

	// Config is interpolated and merged; labels of abra are set and the env is
	// injected into the service "app". Every network, volume, secret and config has
	// the Name that it has on the daemon, and a service that names no network has
	// "default".
	Config *types.Config

	// ConfigData and SecretData are the contents of configs and secrets that are
	// files, by key in Config. What was read at rendering is what is deployed.
	ConfigData map[string][]byte
	SecretData map[string][]byte

	// ConfigVersion is the variable that a config's name holds besides the stack's, by
	// key in Config; a name without one has none.
	ConfigVersion map[string]string

	Secrets  []Secret          // to be created with generated or given values
	Labels   map[string]string // that every object made for this stack carries
	Warnings []Warning
	Timeout  time.Duration // from the timeout label; 0 when there is none
}

// Secret is one secret that the compose files declare and some service uses.
type Secret struct {
	Key      string // in the compose file
	Name     string // on the daemon
	Version  string
	Length   int    // 0: a passphrase
	Charset  string // "" for the default
	Generate bool
}

// Warning is something that works and is not what its author thinks.
type Warning struct {
	File    string
	Line    int // 0 when unknown
	Message string
}

// Env is an ordered set of variables.
type Env struct {
	keys   []string
	values map[string]string
}
