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
// when neither. A version x.y.z+upstream is compared by its left part, then by
// the upstream version. It is newer than any version without a plus, as those
// come from before the scheme. What is no version at all is older than every one.
func CompareVersions(a, b string) int {
	if a == b {
		return 0
	}
	if va, vb := IsVersion(a), IsVersion(b); !va || !vb {
		return boolInt(va) - boolInt(vb)
	}
	leftA, rightA, plusA := strings.Cut(strings.TrimPrefix(a, "v"), "+")
	leftB, rightB, plusB := strings.Cut(strings.TrimPrefix(b, "v"), "+")
	if plusA != plusB {
		return boolInt(plusA) - boolInt(plusB)
	}
	return cmp.Or(compareTags(leftA, leftB), compareTags(rightA, rightB), cmp.Compare(a, b))
}

// compareTags compares the way people write image tags: numbers as numbers,
// words as words. A release is newer than its own rc, beta and alpha, and older
// than itself with any other word behind (1.2 < 1.2-p1).
func compareTags(a, b string) int {
	as, bs := versionParts.FindAllString(trimV(a), -1), versionParts.FindAllString(trimV(b), -1)
	for i := range max(len(as), len(bs)) {
		switch {
		case i >= len(as):
			return -tailWeight(bs[i:])
		case i >= len(bs):
			return tailWeight(as[i:])
		}
		if c := comparePart(as[i], bs[i]); c != 0 {
			return c
		}
	}
	return 0
}

// tailWeight says whether what one version has behind the other makes it newer.
func tailWeight(tail []string) int {
	if preRelease(tail[0]) {
		return -1
	}
	for _, part := range tail {
		if strings.Trim(part, "0") != "" {
			return 1
		}
	}
	return 0 // 1.2 and 1.2.0
}

func comparePart(a, b string) int {
	numberA, numberB := isDigit(a[0]), isDigit(b[0])
	switch {
	case numberA && numberB:
		a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
		return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b))
	case numberA != numberB:
		// 1.2.1 against 1.2.rc1 or 1.2-alpine: the number is newer.
		return boolInt(numberA) - boolInt(numberB)
	}
	if pa, pb := preRelease(a), preRelease(b); pa != pb {
		return boolInt(pb) - boolInt(pa)
	}
	return strings.Compare(strings.ToLower(a), strings.ToLower(b))
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
