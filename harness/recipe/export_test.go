package recipe

import (
	"strings"
	"unicode/utf8"
)

// EnvLine is envLine, for the property that ParseEnv reads back what it writes.
var EnvLine = envLine

// ValidEnvValue reports whether a value can stand in an env file at all.
func ValidEnvValue(value string) bool {
	return utf8.ValidString(value) && !strings.ContainsRune(value, 0) && len(value) < maxEnvValue
}
