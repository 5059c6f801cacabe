package recipe

import (
	"regexp"
	"strings"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// Limits of names on a swarm. A service's name is a DNS label.
const (
	maxSecretName  = 64
	maxConfigName  = 64
	maxServiceName = 63
	// maxStackName is where abra cuts, so that something is left for the rest.
	maxStackName = 45
)

var (
	domainPattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$`)
	objectName    = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9_.-]*[a-zA-Z0-9])?$`)
	recipeName    = regexp.MustCompile(`^[a-z0-9][a-z0-9_.-]{0,63}$`)
)

// StackName derives the name of the stack from an app's domain: every . becomes _,
// and it is cut to 45 characters.
func StackName(domain string) string {
	name := strings.ReplaceAll(domain, ".", "_")
	if len(name) > maxStackName {
		name = strings.TrimRight(name[:maxStackName], "_-")
	}
	return name
}

// OwnHost reports whether a host is an app's domain, or a name made from it: www.DOMAIN, sandbox-DOMAIN. Both
// are in lower case. A run's domain has a random part, so that no other run's ends with it.
func OwnHost(host, domain string) bool {
	front, ok := strings.CutSuffix(host, domain)
	return ok && domain != "" && (front == "" || strings.HasSuffix(front, ".") || strings.HasSuffix(front, "-"))
}

func checkDomain(domain string) error {
	if len(domain) > 253 || !domainPattern.MatchString(domain) {
		return ccci.Errorf(ccci.CodeInvalid, "%q is not a domain", shorten(domain)).
			WithHint("lower-case letters, digits and hyphens, parts divided by dots")
	}
	return nil
}

// checkNames refuses names that the daemon would refuse only after half of the
// stack was made.
func checkNames(s *Stack) error {
	for _, service := range s.Config.Services {
		if name := s.Name + "_" + service.Name; len(name) > maxServiceName {
			return nameTooLong("service", service.Name, name, maxServiceName)
		}
	}
	for _, key := range sortedKeys(s.Config.Configs) {
		if err := checkObjectName("config", key, s.Config.Configs[key].Name, maxConfigName); err != nil {
			return err
		}
	}
	for _, key := range sortedKeys(s.Config.Secrets) {
		if err := checkObjectName("secret", key, s.Config.Secrets[key].Name, maxSecretName); err != nil {
			return err
		}
	}
	return nil
}

func checkObjectName(kind, key, name string, limit int) error {
	if len(name) > limit {
		return nameTooLong(kind, key, name, limit)
	}
	if !objectName.MatchString(name) {
		return ccci.Errorf(ccci.CodeRecipe, "the %s %s would be named %q, which docker refuses", kind, key, name).
			WithHint("names hold letters, digits, _ . and -, and end in a letter or digit; is its version variable empty?")
	}
	return nil
}

func nameTooLong(kind, key, name string, limit int) error {
	return ccci.Errorf(ccci.CodeRecipe, "the %s %s would be named %q: %d characters, and docker allows %d", kind, key, name, len(name), limit).
		WithHint("shorten the key %q in the compose file by %d characters", key, len(name)-limit)
}

// LocalRegistry begins the references of images that are made on the machine: those of the
// examples and of helper containers. No registry is ever asked for them.
const LocalRegistry = "cc-ci.local"

// HelperImage is the name of cc-ci's own helper image, without its tag. It is no recipe's.
const HelperImage = LocalRegistry + "/box"
