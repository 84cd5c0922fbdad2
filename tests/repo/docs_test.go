package repo

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestEveryPackageOpensWithItsContract, once.
func TestEveryPackageOpensWithItsContract(t *testing.T) {
	for _, p := range all(t) {
		names := p.GoFiles
		if len(names) == 0 {
			names = slices.Concat(p.TestGoFiles, p.XTestGoFiles)
		}
		var documented []string
		generated := 0
		for _, name := range names {
			f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.PackageClauseOnly|parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			if ast.IsGenerated(f) {
				generated++
			}
			if f.Doc != nil {
				documented = append(documented, name)
			}
		}
		if generated == len(names) {
			continue // the .proto is its documentation
		}
		if len(documented) != 1 {
			t.Errorf("%s has its doc comment in %v, want exactly one file", p.ImportPath, documented)
		}
	}
}

// TestExportedIsDocumented: units, limits and errors stand where they are used.
func TestExportedIsDocumented(t *testing.T) {
	for _, p := range all(t) {
		for _, name := range p.GoFiles {
			set := token.NewFileSet()
			f, err := parser.ParseFile(set, filepath.Join(p.Dir, name), nil, parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			if ast.IsGenerated(f) || p.Name == "main" {
				continue
			}
			for _, bare := range undocumented(f) {
				t.Errorf("%s/%s: %s has no comment", p.ImportPath, name, bare)
			}
		}
	}
}

// undocumented lists exported declarations without a comment. A group's comment
// covers its values; methods of unexported types count as their interface's.
func undocumented(f *ast.File) []string {
	var bare []string
	for _, decl := range f.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			if d.Name.IsExported() && d.Doc == nil && exportedReceiver(d) {
				bare = append(bare, d.Name.Name)
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch s := spec.(type) {
				case *ast.TypeSpec:
					if s.Name.IsExported() && d.Doc == nil && s.Doc == nil && s.Comment == nil {
						bare = append(bare, s.Name.Name)
					}
				case *ast.ValueSpec:
					if s.Names[0].IsExported() && d.Doc == nil && s.Doc == nil && s.Comment == nil {
						bare = append(bare, s.Names[0].Name)
					}
				}
			}
		}
	}
	return bare
}

func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	for kind := d.Recv.List[0].Type; ; {
		switch k := kind.(type) {
		case *ast.StarExpr:
			kind = k.X
		case *ast.IndexExpr:
			kind = k.X
		case *ast.Ident:
			return k.IsExported()
		default:
			return true
		}
	}
}

var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

// TestLinksLead: every relative link of a document leads to a file.
func TestLinksLead(t *testing.T) {
	for _, file := range files(t) {
		if path.Ext(file) != ".md" {
			continue
		}
		for _, m := range link.FindAllStringSubmatch(read(t, file), -1) {
			target, _, _ := strings.Cut(m[1], "#")
			if target == "" || strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			if _, err := os.Stat(filepath.Join(root, path.Dir(file), target)); err != nil {
				t.Errorf("%s links to %s, which is not there", file, m[1])
			}
		}
	}
}

// TestMakeTargetsExist: every target that a document names is in the Makefile.
func TestMakeTargetsExist(t *testing.T) {
	makefile := read(t, "Makefile")
	target := regexp.MustCompile("`(?:sudo )?make ([a-z]+)`|^(?:sudo )?make ([a-z]+)")
	for _, file := range files(t) {
		if path.Ext(file) != ".md" {
			continue
		}
		for line := range strings.Lines(read(t, file)) {
			for _, m := range target.FindAllStringSubmatch(line, -1) {
				if name := m[1] + m[2]; !strings.Contains(makefile, "\n"+name+":") {
					t.Errorf("%s says `make %s`, which the Makefile does not have", file, name)
				}
			}
		}
	}
}

// TestMakeHelps: `make help` prints every target that a newcomer is promised.
func TestMakeHelps(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "make", "--no-print-directory", "help")
	cmd.Dir = root
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("make help: %v: %s", err, out)
	}
	var shown []string
	for line := range strings.Lines(string(out)) {
		if fields := strings.Fields(line); len(fields) > 1 {
			shown = append(shown, fields[0])
		}
	}
	for _, want := range strings.Fields("help build deps check test demo bench conformance dist fmt generate clean") {
		if !slices.Contains(shown, want) {
			t.Errorf("make help does not tell of %s:\n%s", want, out)
		}
	}
}
