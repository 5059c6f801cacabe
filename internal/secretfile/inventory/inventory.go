// Package inventory lists the secrets that the appliance needs: what each is, which
// of them are made here, and whether the wildcard certificate among them is good.
package inventory

import (
	"crypto/rand"
	"encoding/hex"
	"net/url"
	"slices"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// FileName is the file that holds all of them, in the folder of secrets.
const FileName = "secrets.yaml"

// The names that code asks for. sops-nix gives each to the host as
// /run/secrets/<name>.
const (
	Certificate    = "wildcard_certificate"
	CertificateKey = "wildcard_key"
)

// Key is one secret.
type Key struct {
	Name string
	// Doc says what it is and where it comes from; it stands above it in the file.
	Doc string
	// Public values stand beside secrets because they belong to them; everybody may
	// know them.
	Public bool
	// After says what is left to do when its value was changed, besides the next
	// activation. It may be empty.
	After string

	bytes  int    // of randomness in a generated value; 0 when it cannot be made here
	preset string // what it is before anybody fills it in
}

// Keys lists all, in the order of the file.
func Keys() []Key {
	return []Key{
		{Name: "gitea_token", Doc: "Token of cc-ci's own account at the forge."},
		{Name: "gitea_hook_secret", bytes: 32, Doc: "What the forge signs webhooks with. Made here.",
			After: "put it into the webhook at the forge; until then polling does it all"},
		{Name: "drone_rpc_secret", bytes: 32, Doc: "What the Drone server and its runner know each other by. Made here."},
		{Name: "drone_token", bytes: 16, Doc: "Token of Drone's account that starts builds. Made here; the server is told by DRONE_USER_CREATE.",
			After: "Drone keeps the old one for an account that is there; remove the account in Drone first"},
		{Name: "drone_gitea_client_id", Public: true, Doc: "Id of Drone's OAuth application at the forge."},
		{Name: "drone_gitea_client_secret", Doc: "Secret of that application."},
		{Name: redisPassword, bytes: 32, Doc: "Password of the Redis between bridge and dashboard. Made here; redis_url has it too."},
		{Name: redisURL, Doc: "Address of that Redis as containers see it: the host's address on docker_gwbridge."},
		{Name: "registry_auth", preset: `{"auths":{}}`, Doc: "Docker's config.json with the logins of image registries. As it is here, there are none."},
		{Name: "restic_password", bytes: 32, Doc: "What backups are encrypted with. Made here. Who loses it loses the backups.",
			After: "add it to the backup repository with restic key add before the next activation, or old backups cannot be opened"},
		{Name: Certificate, Public: true, Doc: "Wildcard certificate (PEM) for the CI domain and *.<CI domain>, with its chain."},
		{Name: CertificateKey, Doc: "Its private key (PEM)."},
	}
}

// The password stands in the address too.
const (
	redisPassword = "redis_password"
	redisURL      = "redis_url"
	// redisSocket is where the Redis of a host listens, and nowhere else.
	redisSocket = "/run/redis-cc-ci/redis.sock"
	// gateway is the address of a host on docker_gwbridge, where earlier versions had Redis listen.
	gateway = "172.18.0.1"
)

// Find returns the key of that name.
func Find(name string) (Key, bool) {
	all := Keys()
	i := slices.IndexFunc(all, func(k Key) bool { return k.Name == name })
	if i < 0 {
		return Key{}, false
	}
	return all[i], true
}

// Generated reports whether the value is made here.
func (k Key) Generated() bool { return k.bytes > 0 }

// Fill gives each of keys the value that it begins with, where there is one: generated,
// or following from what secret knows already.
func Fill(keys []Key, secret func(name string) (ccci.Secret, bool), set func(k Key, s ccci.Secret) error) error {
	for _, k := range keys {
		value := ccci.NewSecret(k.preset)
		switch {
		case k.Generated():
			value = k.Generate()
		case k.Name == redisURL:
			password, _ := secret(redisPassword)
			value = ccci.NewSecret((&url.URL{Scheme: "unix", User: url.UserPassword("", password.Reveal()), Path: redisSocket}).String())
		}
		if err := set(k, value); err != nil {
			return err
		}
	}
	return nil
}

// Follow returns the values that change together with a key: the address that holds a
// password.
func Follow(name string, old, value ccci.Secret, secret func(name string) (ccci.Secret, bool)) (also string, s ccci.Secret, ok bool) {
	address, _ := secret(redisURL)
	u, err := url.Parse(address.Reveal())
	if name != redisPassword || err != nil {
		return "", ccci.Secret{}, false
	}
	if password, _ := u.User.Password(); password != old.Reveal() {
		return "", ccci.Secret{}, false
	}
	u.User = url.UserPassword(u.User.Username(), value.Reveal())
	return redisURL, ccci.NewSecret(u.String()), true
}

// CheckRedis looks whether the address of Redis holds its password.
func CheckRedis(secret func(name string) (ccci.Secret, bool)) []ccci.Diagnosis {
	password, _ := secret(redisPassword)
	address, _ := secret(redisURL)
	if password.Reveal() == "" || address.Reveal() == "" {
		return nil // that is another problem
	}
	problem := ccci.Diagnosis{Check: "redis", Code: ccci.CodeInvalid, Hint: "write it with cc-ci secrets edit as unix://:PASSWORD@" + redisSocket}
	u, err := url.Parse(address.Reveal())
	if err != nil || u.Host == "" && (u.Scheme != "unix" || u.Path == "") { // the error would show the password
		problem.Message = redisURL + " is no address"
		return []ccci.Diagnosis{problem}
	}
	if u.Hostname() == gateway {
		problem.Message = redisURL + " names " + gateway + ", the host's address on docker_gwbridge, where containers reach no port of the host"
		return []ccci.Diagnosis{problem}
	}
	if in, _ := u.User.Password(); in != password.Reveal() {
		problem.Message = redisURL + " holds another password than " + redisPassword
		return []ccci.Diagnosis{problem}
	}
	return nil
}

// Harmless reports whether a value may be seen by everybody.
func (k Key) Harmless(value ccci.Secret) bool { return k.Public || value.Reveal() == k.preset }

// Generate makes a new value of hexadecimal digits. It is empty when the key is none
// that is made here.
func (k Key) Generate() ccci.Secret {
	b := make([]byte, k.bytes)
	rand.Read(b) // never fails
	return ccci.NewSecret(hex.EncodeToString(b))
}
