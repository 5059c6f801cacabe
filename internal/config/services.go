package config

import (
	"cmp"
	"strings"
)

// DroneServer settings.
type DroneServer struct {
	Host         string `yaml:"host" doc:"Where it is reached. Default: drone. and the domain."`
	Admin        string `yaml:"admin" default:"cibot" doc:"The account at the forge that is cc-ci's: an administrator of Drone, and of cc-ci's own repository."`
	RPCSecret    string `yaml:"rpc_secret_file" default:"drone_rpc_secret" doc:"File with the secret that server and runner share."`
	ClientID     string `yaml:"client_id_file" default:"drone_gitea_client_id" doc:"File with the id of the OAuth application at the forge."`
	ClientSecret string `yaml:"client_secret_file" default:"drone_gitea_client_secret" doc:"File with its secret."`
}

// Backup settings.
type Backup struct {
	Repository string `yaml:"repository" default:"/var/lib/cc-ci-backups" doc:"Folder of the host with the restic repository."`
	Password   string `yaml:"password_file" default:"restic_password" doc:"File with its password."`
}

// finishServices fills in and checks what is told of Drone and of backups.
func (c *Config) finishServices(bad complain) {
	d := &c.Reconcile.Drone
	d.Host = cmp.Or(d.Host, "drone."+c.Domain)
	if !hostName.MatchString(d.Host) {
		bad("reconcile.drone.host", "write a lower-case host name, as drone.ci.example.org", "%q is not a host name", d.Host)
	}
	if d.Admin == "" || strings.ContainsAny(d.Admin, ":, \t") {
		bad("reconcile.drone.admin", "name an account at the forge", "%q is not an account", d.Admin)
	}
	if !strings.HasPrefix(c.Reconcile.Backup.Repository, "/") {
		bad("reconcile.backup.repository", "write the whole path", "%q does not begin at /", c.Reconcile.Backup.Repository)
	}
}

// BridgeSecrets are the paths of the files that the bridge's process reads.
func (c *Config) BridgeSecrets() []string {
	paths := []string{c.Engine.Drone.TokenFile, c.Bus.Redis.URLFile}
	for _, f := range c.Forges {
		paths = append(append(paths, f.TokenFile, f.App.KeyFile), f.HookSecrets...)
	}
	return named(paths)
}

// DashboardSecrets are those of the dashboard's process. Drone's token, with which anything can be
// started, is none of them.
func (c *Config) DashboardSecrets() []string { return named([]string{c.Bus.Redis.URLFile}) }

// named returns each path that is not empty, once.
func named(paths []string) []string {
	var all []string
	seen := map[string]bool{"": true}
	for _, p := range paths {
		if !seen[p] {
			all = append(all, p)
		}
		seen[p] = true
	}
	return all
}
