package repo

import (
	"bytes"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// homes are where people and build machines keep their clones.
const homes = `(^|[^A-Za-z0-9_.$}-])(/work/|/root/|/home/[a-z])`

// foreign are traces of the machine that something was written on: paths, and the
// host of its module registry, which the machine is asked for.
func foreign(t *testing.T) *regexp.Regexp {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "env", "GOPROXY").Output()
	if err != nil {
		t.Fatal(err)
	}
	expr := homes
	for _, proxy := range strings.FieldsFunc(string(out), func(r rune) bool { return r == ',' || r == '|' || r == '\n' }) {
		if u, err := url.Parse(proxy); err == nil && u.Host != "" {
			expr += "|" + regexp.QuoteMeta(u.Hostname())
		}
	}
	return regexp.MustCompile(expr)
}

// allowed are files where such a path is right.
var allowed = map[string]string{
	"tests/repo/files_test.go": "this rule",
	"tests/image/oci/layer.go": "root's home in an image",
}

// TestNoTraceOfAMachine: what is committed is true everywhere.
func TestNoTraceOfAMachine(t *testing.T) {
	traces := foreign(t)
	for _, file := range files(t) {
		if allowed[file] != "" || path.Base(file) == "go.sum" {
			continue
		}
		n := 0
		for line := range strings.Lines(read(t, file)) {
			n++
			if m := traces.FindString(line); m != "" {
				t.Errorf("%s:%d names %q: %s", file, n, m, strings.TrimSpace(line))
			}
		}
	}
}

// TestScriptsParse: every shell script is at least one.
func TestScriptsParse(t *testing.T) {
	found := 0
	for _, file := range files(t) {
		text := read(t, file)
		shebang, _, _ := strings.Cut(text, "\n")
		script := strings.HasPrefix(shebang, "#!") && strings.HasSuffix(shebang, "sh")
		if path.Ext(file) != ".sh" && !script {
			continue
		}
		found++
		if out, err := exec.CommandContext(t.Context(), "bash", "-n", filepath.Join(root, file)).CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", file, err, out)
		}
		if !strings.Contains(text, "set -e") {
			t.Errorf("%s goes on after an error: set -euo pipefail", file)
		}
		if info, err := os.Stat(filepath.Join(root, file)); err == nil && strings.HasPrefix(shebang, "#!") && info.Mode()&0o111 == 0 {
			t.Errorf("%s has a shebang and is not executable", file)
		}
	}
	if found == 0 {
		t.Error("found no script")
	}
}

// TestProtocolIsCurrent regenerates the protocol's Go code with the pinned tools
// and compares; it lints the protocol, too.
func TestProtocolIsCurrent(t *testing.T) {
	abs, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	// Plugins are found in the PATH, so the tools that `go tool` builds and keeps in
	// Go's cache get a folder.
	bin := t.TempDir()
	for _, tool := range []string{"buf", "protoc-gen-go", "protoc-gen-connect-go"} {
		find := exec.CommandContext(t.Context(), "go", "tool", "-n", tool)
		find.Dir = filepath.Join(abs, "tools", "proto")
		var stderr bytes.Buffer
		find.Stderr = &stderr
		built, err := find.Output()
		if err != nil {
			t.Fatalf("build %s (go mod download in tools/proto fetches what it needs): %v\n%s", tool, err, &stderr)
		}
		if err := os.Symlink(strings.TrimSpace(string(built)), filepath.Join(bin, tool)); err != nil {
			t.Fatal(err)
		}
	}
	generated := t.TempDir()
	for _, args := range [][]string{{"lint"}, {"generate", "--output", generated}} {
		cmd := exec.CommandContext(t.Context(), filepath.Join(bin, "buf"), args...)
		cmd.Dir = abs
		cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "BUF_CACHE_DIR="+t.TempDir())
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("buf %s: %v\n%s", args[0], err, out)
		}
	}
	want, got := generatedIn(t, generated), generatedIn(t, abs)
	for _, file := range slices.Sorted(maps.Keys(want)) {
		if got[file] != want[file] {
			t.Errorf("%s is not what the .proto gives: make generate", file)
		}
		delete(got, file)
	}
	for file := range got {
		t.Errorf("%s is of a .proto that is not there: remove it", file)
	}
}

// generatedIn is what buf has generated below dir, by path.
func generatedIn(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	for _, pattern := range []string{
		"nodeagent/api/brig/v1/*.pb.go", "nodeagent/api/brig/v1/brigv1connect/*.go", "shim/wire/pod/*.pb.go",
	} {
		found, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil || len(found) == 0 {
			t.Fatalf("%s in %s: %d files, %v", pattern, dir, len(found), err)
		}
		for _, path := range found {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			files[strings.TrimPrefix(path, dir+"/")] = string(data)
		}
	}
	return files
}
