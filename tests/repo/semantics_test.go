package repo

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// rows of what the product promises of a request.
var rows = []string{
	"nothing said", "block_network", "block_network with any allowlist", "block_network with ports", "cidr_allowlist absent, empty, a list",
	"malformed CIDR", "private or metadata range in a tenant's list", "domain_allowlist", "policy change at run time", "timeout", "idle_timeout",
	"exit code", "exec", "tunnels", "name", "tags", "argv", "cpu and memory", "gpu", "every field is honoured or refused",
}

var quoted = regexp.MustCompile("`(Test[^`]+)`")

// TestEveryRowOfTheSemanticsHasATest, which exists.
func TestEveryRowOfTheSemanticsHasATest(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join(root, "tests/README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(readme), "\n## What a request means\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var found []string
	for line := range strings.Lines(section) {
		cells := strings.Split(line, "|")
		if len(cells) != 4 || !strings.Contains(cells[2], "`Test") {
			continue
		}
		found = append(found, strings.TrimSpace(cells[1]))
		for _, name := range quoted.FindAllStringSubmatch(cells[2], -1) {
			if !hasTest(t, name[1]) {
				t.Errorf("row %s: tests/e2e has no test %s", cells[1], name[1])
			}
		}
	}
	for _, row := range rows {
		if !slices.Contains(found, row) {
			t.Errorf("tests/README.md names no test of the row %q", row)
		}
	}
}

// hasTest looks for the function, and for the name of the subtest in its file.
func hasTest(t *testing.T, name string) bool {
	t.Helper()
	function, sub, isSub := strings.Cut(name, "/")
	files, err := filepath.Glob(filepath.Join(root, "tests/e2e/*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "\nfunc "+function+"(t *testing.T)") {
			return !isSub || strings.Contains(string(text), `"`+sub+`"`)
		}
	}
	return false
}
