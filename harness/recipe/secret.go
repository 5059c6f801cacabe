package recipe

import (
	"fmt"
	"io"
	"strings"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// maxSecretLength bounds the length modifier, in characters.
const maxSecretLength = 4096

// Alphabets of the charset modifier.
const (
	letters     = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	digits      = "0123456789"
	safeSpecial = "!@#%^&*_-+="
	special     = safeSpecial + `$"'()/:;<>?,.[]{}|~`
)

// alphabet resolves a charset modifier: a comma list of known words. ok is false
// when it holds an unknown word; the default then stands in, as a recipe that
// abra deploys must not fail here.
func alphabet(charset string) (chars string, ok bool) {
	ok = true
	for word := range strings.SplitSeq(charset, ",") {
		set := ""
		switch strings.ToLower(strings.TrimSpace(word)) {
		case "", "default", "alnum":
			set = letters + digits
		case "special":
			set = special
		case "safespecial":
			set = safeSpecial
		case "hex":
			set = "0123456789abcdef"
		default:
			set, ok = letters+digits, false
		}
		for _, c := range set {
			if !strings.ContainsRune(chars, c) {
				chars += string(c)
			}
		}
	}
	return chars, ok
}

// GenerateSecret makes a value: Length characters from Charset, or, when Length is
// 0, a passphrase of six pronounceable words divided by hyphens (108 bits). rnd must
// be cryptographically random. A secret that must not be generated is an Error
// with CodeRecipe: its value has to come from the enrolment.
func GenerateSecret(s Secret, rnd io.Reader) (ccci.Secret, error) {
	if !s.Generate {
		return ccci.Secret{}, ccci.Errorf(ccci.CodeRecipe, "the secret %s is not generated (generate=false) and has no value", s.Key).
			WithHint("give it a dummy value under secrets: in tests/<recipe>/recipe.yml")
	}
	if s.Length < 0 || s.Length > maxSecretLength {
		return ccci.Secret{}, ccci.Errorf(ccci.CodeRecipe, "the secret %s cannot have %d characters", s.Key, s.Length).
			WithHint("length is 1 to %d", maxSecretLength)
	}
	value, err := randomValue(s, rnd)
	if err != nil {
		return ccci.Secret{}, fmt.Errorf("generating the secret %s: %w", s.Key, err)
	}
	return ccci.NewSecret(value), nil
}

func randomValue(s Secret, rnd io.Reader) (string, error) {
	if s.Length == 0 {
		return passphrase(rnd)
	}
	chars, _ := alphabet(s.Charset)
	return randomString(chars, s.Length, rnd)
}

// randomString draws every character with the same probability: bytes beyond the
// largest multiple of the alphabet's size are drawn again.
func randomString(chars string, length int, rnd io.Reader) (string, error) {
	out := make([]byte, 0, length)
	bound := 256 - 256%len(chars)
	buffer := make([]byte, 64)
	for len(out) < length {
		if _, err := io.ReadFull(rnd, buffer); err != nil {
			return "", fmt.Errorf("reading randomness: %w", err)
		}
		for _, b := range buffer {
			if int(b) < bound && len(out) < length {
				out = append(out, chars[int(b)%len(chars)])
			}
		}
	}
	return string(out), nil
}

func passphrase(rnd io.Reader) (string, error) {
	const consonants, vowels = "bdfghjklmnprstvz", "aiou" // 4 and 2 bits
	words := make([]string, 6)
	buffer := make([]byte, 3*len(words))
	if _, err := io.ReadFull(rnd, buffer); err != nil {
		return "", fmt.Errorf("reading randomness: %w", err)
	}
	for i, b := range buffer {
		words[i/3] += string(consonants[b&15]) + string(vowels[b>>4&3])
	}
	return strings.Join(words, "-"), nil
}

// deriveSecrets lists the secrets that some service uses and that nobody brings along:
// external ones of this very stack. Those of other stacks are left to admission.
func deriveSecrets(s *Stack, files []*composeFile, app *appEnv) error {
	used := map[string]bool{}
	for _, service := range s.Config.Services {
		for _, ref := range service.Secrets {
			used[ref.Source] = true
		}
	}
	for _, key := range sortedKeys(s.Config.Secrets) {
		object := s.Config.Secrets[key]
		file, line := findLine(files, "secrets", key)
		switch {
		case !object.External.External:
			continue
		case !used[key]:
			s.Warnings = append(s.Warnings, Warning{file, line, fmt.Sprintf("the secret %s is declared and no service uses it", key)})
			continue
		case !strings.HasPrefix(object.Name, s.Name+"_"):
			s.Warnings = append(s.Warnings, Warning{file, line,
				fmt.Sprintf("the secret %s is %q on the daemon, which is not this app's: it is not created here", key, object.Name)})
			continue
		}
		secret, warning, err := describeSecret(s, key, rawName(files, "secrets", key), app)
		if err != nil {
			return ccci.Errorf(ccci.CodeOf(err), "%s: %w", at(file, line), err).WithHint("%s", ccci.HintOf(err))
		}
		if warning != "" {
			s.Warnings = append(s.Warnings, Warning{file, line, warning})
		}
		s.Secrets = append(s.Secrets, secret)
	}
	return nil
}

// rawName is the name of an object before interpolation; the last file that gives one counts.
func rawName(files []*composeFile, section, key string) string {
	for i := len(files) - 1; i >= 0; i-- {
		if name, ok := files[i].section(section, key)["name"].(string); ok {
			return name
		}
	}
	return ""
}

func describeSecret(s *Stack, key, raw string, app *appEnv) (Secret, string, error) {
	name := s.Config.Secrets[key].Name
	secret := Secret{Key: key, Name: name, Generate: true}
	secret.Version = name[strings.LastIndexByte(name, '_')+1:]
	variables := variablesIn(raw)
	if secret.Version == "" {
		variable := "its version variable"
		for _, v := range variables {
			if v != "STACK_NAME" {
				variable = v
			}
		}
		return secret, "", ccci.Errorf(ccci.CodeRecipe, "the secret %s has no version, as %s is empty or not set in the env file", key, variable).
			WithHint("write ${%s:-v1} in the compose file, so that apps with an older env file can be upgraded, or set it in .env.sample", variable)
	}
	warning := ""
	for _, variable := range variables {
		mods := app.file.Modifiers[variable]
		if mods == nil {
			mods = app.sample.Modifiers[variable]
		}
		for name, value := range mods {
			switch name {
			case "length":
				length, ok := parseLength(value)
				if !ok {
					return secret, "", ccci.Errorf(ccci.CodeInvalid, "the secret %s: %s has the modifier length=%s", key, variable, shorten(value)).
						WithHint("length is 1 to %d", maxSecretLength)
				}
				secret.Length = length
			case "charset":
				secret.Charset = value
				if _, ok := alphabet(value); !ok {
					warning = fmt.Sprintf("the secret %s: charset=%s is not known; letters and digits are used", key, shorten(value))
				}
			case "generate":
				secret.Generate = value != "false"
			}
		}
	}
	if secret.Charset != "" && secret.Length == 0 {
		warning = fmt.Sprintf("the secret %s has a charset and no length: it becomes a passphrase", key)
	}
	return secret, warning, nil
}

func parseLength(text string) (int, bool) {
	length := 0
	for i := range len(text) {
		if !isDigit(text[i]) || length > maxSecretLength {
			return 0, false
		}
		length = length*10 + int(text[i]-'0')
	}
	return length, length >= 1 && length <= maxSecretLength
}
