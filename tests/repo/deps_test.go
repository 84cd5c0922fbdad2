package repo

import (
	"debug/elf"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var components = []string{"shim", "cni", "hooks", "nodeagent"}

// TestNothingImportsAMain: a main wires and exits; what another package could
// want of it belongs into a library.
func TestNothingImportsAMain(t *testing.T) {
	mains := map[string]bool{}
	for _, p := range all(t) {
		mains[p.ImportPath] = p.Name == "main"
	}
	for _, p := range all(t) {
		for _, i := range slices.Concat(p.Imports, p.TestImports, p.XTestImports) {
			if mains[i] && i != p.ImportPath {
				t.Errorf("%s imports the main %s", p.ImportPath, i)
			}
		}
	}
}

// wiredBy are the components that a main of another hands to its own.
var wiredBy = map[string]string{"brig/shim/containerd-shim-brig-v1": "hooks"}

// TestComponentsAreApart: each can be understood, replaced and shipped without
// the others; what two of them share is a leaf in internal.
func TestComponentsAreApart(t *testing.T) {
	for _, p := range all(t) {
		for _, mine := range components {
			for _, other := range components {
				if mine == other || !below(p.ImportPath, mine) || wiredBy[p.ImportPath] == other {
					continue
				}
				for _, i := range p.Imports {
					if below(i, other) {
						t.Errorf("%s imports %s: %s and %s share only what is in internal", p.ImportPath, i, mine, other)
					}
				}
			}
		}
	}
}

// TestInternalIsALeaf: a leaf that imports a component is a cycle in waiting.
// Nothing that ships imports tests.
func TestInternalIsALeaf(t *testing.T) {
	for _, p := range all(t) {
		for _, i := range p.Imports {
			for _, c := range components {
				if below(p.ImportPath, "internal") && below(i, c) {
					t.Errorf("%s imports the component %s", p.ImportPath, i)
				}
			}
			if below(i, "tests") && !below(p.ImportPath, "tests") {
				t.Errorf("%s ships and imports %s", p.ImportPath, i)
			}
		}
	}
}

// TestNetpolicyIsPure: the policy is a value that every part computes alike; it
// has no I/O and no dependency that could change its meaning.
func TestNetpolicyIsPure(t *testing.T) {
	for _, p := range all(t) {
		if p.ImportPath != "brig/internal/netpolicy" {
			continue
		}
		for _, i := range p.Deps {
			// internal/sandbox is as pure; the annotations' names are there.
			if !standard(i) && i != "brig/internal/sandbox" {
				t.Errorf("internal/netpolicy reaches %s, want the standard library only", i)
			}
		}
		for _, i := range p.Imports {
			if slices.Contains([]string{"os", "net", "net/http", "os/exec", "syscall", "io/fs"}, i) {
				t.Errorf("internal/netpolicy imports %s, want no I/O", i)
			}
		}
	}
}

// standard tells packages of the standard library by their path: only theirs
// have a first element without a dot.
func standard(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return !strings.Contains(first, ".") && first != "brig"
}

// TestPluginIsSmall: brig-cni is executed for every attachment, so what it links
// is paid for every time.
func TestPluginIsSmall(t *testing.T) {
	banned := []string{"github.com/containerd/containerd", "github.com/containerd/ttrpc", "google.golang.org/grpc", "google.golang.org/protobuf", "connectrpc.com"}
	for _, p := range all(t) {
		if p.ImportPath != "brig/cni/brig-cni" {
			continue
		}
		for _, i := range p.Deps {
			for _, b := range banned {
				if strings.HasPrefix(i, b) {
					t.Errorf("brig-cni links %s", i)
				}
			}
		}
	}
}

var runsNft = regexp.MustCompile(`exec\.Command(Context)?\([^)]*"nft"`)

// TestOneHome: what speaks to containerd's API, to CNI plugins and to nft, and
// what enters namespaces, has one home each, where its pitfalls are known.
func TestOneHome(t *testing.T) {
	for _, home := range []struct{ imported, by string }{
		{"github.com/containerd/containerd/v2/client", "nodeagent"},
		{"github.com/containernetworking/cni/libcni", "nodeagent"},
	} {
		var importers []string
		for _, p := range all(t) {
			if slices.Contains(p.Imports, home.imported) && !below(p.ImportPath, "tests") {
				importers = append(importers, p.ImportPath)
			}
		}
		if len(importers) > 1 || len(importers) == 1 && !below(importers[0], home.by) {
			t.Errorf("%s is imported by %v, want one package of %s", home.imported, importers, home.by)
		}
	}
	for _, p := range all(t) {
		if below(p.ImportPath, "tests") {
			continue
		}
		for _, file := range p.GoFiles {
			text, err := os.ReadFile(filepath.Join(p.Dir, file))
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(text), "Setns(") && p.ImportPath != "brig/internal/netns" {
				t.Errorf("%s/%s calls setns, want internal/netns alone to", p.ImportPath, file)
			}
			if runsNft.Match(text) && p.ImportPath != "brig/internal/netpolicy/nft" {
				t.Errorf("%s/%s runs nft, want internal/netpolicy/nft alone to speak it", p.ImportPath, file)
			}
		}
	}
}

// TestNoCgo: our binaries are static and run on any distribution.
func TestNoCgo(t *testing.T) {
	for _, p := range all(t) {
		if len(p.CgoFiles) > 0 {
			t.Errorf("%s has cgo files %v", p.ImportPath, p.CgoFiles)
		}
	}
	for _, name := range []string{"brigd", "brig", "brig-cni", "guest/brig-idle", "guest/brig-files", "brig-probe", "containerd-shim-brig-v1"} {
		f, err := elf.Open(filepath.Join(root, "bin", name))
		if os.IsNotExist(err) {
			continue // not built: make test builds first
		}
		if err != nil {
			t.Errorf("bin/%s: %v", name, err)
			continue
		}
		for _, section := range f.Progs {
			if section.Type == elf.PT_INTERP || section.Type == elf.PT_DYNAMIC {
				t.Errorf("bin/%s is linked dynamically", name)
			}
		}
		_ = f.Close()
	}
}
