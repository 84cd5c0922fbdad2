package ldso

import (
	"strings"
)

// Line of a configuration file: a folder of libraries, or a pattern of more such files.
type Line struct {
	Include bool
	Path    string
}

// ParseConf reads ld.so.conf or a file that it includes. What is not understood is left
// out, as ldconfig does with a warning.
func ParseConf(data []byte) []Line {
	var lines []Line
	for text := range strings.Lines(string(data)) {
		text, _, _ = strings.Cut(text, "#")
		text = strings.TrimFunc(text, blank)
		if text == "" || strings.ContainsRune(text, 0) {
			continue
		}
		if args, ok := directive(text, "include"); ok {
			for _, p := range strings.FieldsFunc(args, blank) {
				lines = append(lines, Line{Include: true, Path: p})
			}
			continue
		}
		if _, ok := directive(text, "hwcap"); ok {
			continue
		}
		if p := strings.TrimRight(text, "/"); strings.HasPrefix(text, "/") {
			lines = append(lines, Line{Path: "/" + strings.TrimPrefix(p, "/")})
		}
	}
	return lines
}

// directive returns what follows a word, whose case does not matter.
func directive(text, word string) (args string, ok bool) {
	if len(text) <= len(word) || !strings.EqualFold(text[:len(word)], word) || !blank(rune(text[len(word)])) {
		return "", false
	}
	return text[len(word):], true
}

// blank is isspace in the C locale.
func blank(r rune) bool { return r == ' ' || r >= '\t' && r <= '\r' }
