package isolation

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestEveryCaseIsNamed: the tests and attacks that README.md names are there.
func TestEveryCaseIsNamed(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	var sources strings.Builder
	for _, pattern := range []string{"*_test.go", "../e2e/*_test.go", "../../nodeagent/*/*_test.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			sources.Write(text)
		}
	}
	names := regexp.MustCompile("`(Test[A-Za-z0-9]+)`").FindAllStringSubmatch(string(readme), -1)
	if len(names) < 40 {
		t.Errorf("only %d tests are named", len(names))
	}
	for _, name := range names {
		if !strings.Contains(sources.String(), "func "+name[1]+"(") {
			t.Errorf("there is no %s", name[1])
		}
	}
	cases := map[string][]string{}
	for _, a := range hostile() {
		cases["TestHostileFrames"] = append(cases["TestHostileFrames"], a.name)
	}
	for _, a := range hostile6() {
		cases["TestHostileFrames6"] = append(cases["TestHostileFrames6"], a.name)
	}
	for _, named := range regexp.MustCompile("`(TestHostileFrames6?)`: ((?:`[^`]+`(?:, )?)+)").FindAllStringSubmatch(string(readme), -1) {
		for _, c := range strings.Split(strings.ReplaceAll(named[2], "`", ""), ", ") {
			parts := strings.Split(strings.TrimSpace(c), "…")
			if c != "" && !strings.HasPrefix(c, "Test") && !slices.ContainsFunc(cases[named[1]], func(name string) bool { return fits(name, parts) }) {
				t.Errorf("%s has no case %s", named[1], c)
			}
		}
	}
}

// fits tells whether a name has all parts in this order, the first at its beginning.
func fits(name string, parts []string) bool {
	if !strings.HasPrefix(name, parts[0]) {
		return false
	}
	for _, part := range parts {
		_, after, found := strings.Cut(name, strings.TrimSpace(part))
		if !found {
			return false
		}
		name = after
	}
	return true
}
