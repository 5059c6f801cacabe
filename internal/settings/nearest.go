package settings

import (
	"fmt"
	"strings"
)

// Nearest returns the candidate that word was most probably meant to be, or ""
// when none is near: at most one typing slip per three letters, one in shorter words,
// where a slip is a letter too many, missing, wrong, or two swapped. Of equally near
// candidates the first wins.
func Nearest(word string, candidates []string) string {
	if len(word) > 64 {
		return ""
	}
	best, bestDist := "", max(1, len(word)/3)
	for _, c := range candidates {
		if dist := slips(strings.ToLower(word), strings.ToLower(c)); dist < bestDist || dist == bestDist && best == "" {
			best, bestDist = c, dist
		}
	}
	return best
}

// Suggest returns the hint for a word that is none of the candidates: whether the
// nearest of them was meant, or otherwise where none is near.
func Suggest(word string, candidates []string, otherwise string) string {
	if near := Nearest(word, candidates); near != "" {
		return fmt.Sprintf("did you mean %q?", near)
	}
	return otherwise
}

// slips is the optimal string alignment distance of a and b.
func slips(a, b string) int {
	rows := [3][]int{make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)}
	for j := range rows[1] {
		rows[1][j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, last, now := rows[0], rows[1], rows[2]
		now[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			now[j] = min(last[j]+1, now[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				now[j] = min(now[j], before[j-2]+1)
			}
		}
		rows = [3][]int{last, now, before}
	}
	return rows[1][len(b)]
}
