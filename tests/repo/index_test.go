package repo

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestEveryPackageHasARoom: whoever opens a folder of a component finds in the tour what
// it is for. What lies deeper belongs to its room.
func TestEveryPackageHasARoom(t *testing.T) {
	named := map[string]bool{}
	for _, m := range regexp.MustCompile("`([^`\n]+)`").FindAllStringSubmatch(read(t, "ARCHITECTURE.md"), -1) {
		path := strings.Split(strings.Trim(m[1], "/"), "/")
		named[path[0]] = true
		if len(path) > 1 && slices.Contains(append(components, "internal"), path[0]) {
			named[path[1]] = true
		}
	}
	rooms := 0
	for _, p := range all(t) {
		path := strings.Split(p.ImportPath, "/")[1:]
		if len(path) < 2 || !slices.Contains(append(components, "internal"), path[0]) {
			continue
		}
		rooms++
		if !named[path[1]] {
			t.Errorf("ARCHITECTURE.md has no room for %s", strings.Join(path, "/"))
		}
	}
	if rooms == 0 {
		t.Error("found no package")
	}
}

// TestEveryRequirementHasAReason: a module that nobody can say why we have is one to drop.
func TestEveryRequirementHasAReason(t *testing.T) {
	first := map[string]bool{}
	for _, row := range regexp.MustCompile(`(?m)^\| ([^|]+) \|`).FindAllStringSubmatch(read(t, "docs/dependencies.md"), -1) {
		for module := range strings.FieldsSeq(row[1]) {
			first[strings.Trim(module, ",")] = true
		}
	}
	direct := regexp.MustCompile(`(?m)^\s+([a-z0-9./_-]+) v\S+$`).FindAllStringSubmatch(read(t, "go.mod"), -1)
	for _, m := range direct {
		if !first[m[1]] {
			t.Errorf("docs/dependencies.md does not say why there is %s", m[1])
		}
	}
	if len(direct) == 0 {
		t.Error("found no requirement")
	}
}
