package recipe

import (
	"cmp"
	"regexp"
	"strings"
)

var (
	// releaseTag is what counts as a version among git tags: x.y.z+upstream, and the
	// schemes from before it (1.13.4_1, 2.4.8-d7d63b0d, bare upstream versions).
	releaseTag   = regexp.MustCompile(`^v?[0-9]+(\.[0-9]+)+([+_-][A-Za-z0-9._+-]+)?$|^[0-9]+(\.[0-9]+)*\+[A-Za-z0-9._+-]+$`)
	properLabel  = regexp.MustCompile(`^[0-9]+\.[0-9]+\.[0-9]+\+[A-Za-z0-9._+-]+$`)
	versionParts = regexp.MustCompile(`[0-9]+|[A-Za-z]+`)
)

// IsVersion reports whether s can be the version of a recipe.
func IsVersion(s string) bool { return len(s) <= 128 && releaseTag.MatchString(s) }

// CompareVersions orders recipe versions: -1 when a is older than b, 1 when it is newer, 0
// when neither, as for one version that is written in two ways. A version x.y.z+upstream is compared by its left part, then by
// the upstream version. It is newer than any version without a plus, as those
// come from before the scheme. What is no version at all is older than every one.
func CompareVersions(a, b string) int {
	if va, vb := IsVersion(a), IsVersion(b); !va || !vb {
		return boolInt(va) - boolInt(vb)
	}
	leftA, rightA, plusA := strings.Cut(strings.TrimPrefix(a, "v"), "+")
	leftB, rightB, plusB := strings.Cut(strings.TrimPrefix(b, "v"), "+")
	if plusA != plusB {
		return boolInt(plusA) - boolInt(plusB)
	}
	return cmp.Or(compareTags(leftA, leftB), compareTags(rightA, rightB))
}

// Older reports whether a version is older than another, like compared with like: where
// one of them has no upstream part, the left parts decide.
func Older(a, b string) bool { return compareLike(a, b) < 0 }

// SameVersion reports whether two texts are one version, also where one of them is
// written with a v or without the upstream part.
func SameVersion(a, b string) bool { return IsVersion(a) && IsVersion(b) && compareLike(a, b) == 0 }

func compareLike(a, b string) int {
	leftA, _, plusA := strings.Cut(a, "+")
	leftB, _, plusB := strings.Cut(b, "+")
	if plusA != plusB && IsVersion(a) && IsVersion(b) {
		return compareTags(leftA, leftB)
	}
	return CompareVersions(a, b)
}

// compareTags compares the way people write image tags: numbers as numbers,
// words as words, and 1.2 is 1.2.0. A release is newer than its own rc, beta and alpha, and older
// than itself with any other word behind (1.2 < 1.2-p1).
func compareTags(a, b string) int {
	as, bs := versionParts.FindAllString(trimV(a), -1), versionParts.FindAllString(trimV(b), -1)
	part := func(parts []string, i int) string {
		if i < len(parts) {
			return parts[i]
		}
		return "0"
	}
	for i := range max(len(as), len(bs)) {
		if c := comparePart(part(as, i), part(bs, i)); c != 0 {
			return c
		}
	}
	return 0
}

func comparePart(a, b string) int {
	if c := cmp.Compare(kindOfPart(a), kindOfPart(b)); c != 0 {
		return c
	}
	if !isDigit(a[0]) {
		return strings.Compare(strings.ToLower(a), strings.ToLower(b))
	}
	a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
	return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b))
}

// kindOfPart orders the kinds of parts: rc, 0 or nothing, any other word, a number above 0.
func kindOfPart(part string) int {
	switch {
	case preRelease(part):
		return 0
	case strings.Trim(part, "0") == "":
		return 1
	case !isDigit(part[0]):
		return 2
	}
	return 3
}

func preRelease(word string) bool {
	switch strings.ToLower(word) {
	case "alpha", "beta", "rc", "pre", "preview", "dev", "snapshot", "nightly", "a", "b":
		return true
	}
	return false
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func trimV(s string) string {
	if len(s) > 1 && (s[0] == 'v' || s[0] == 'V') && isDigit(s[1]) {
		return s[1:]
	}
	return s
}
