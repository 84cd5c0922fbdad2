package operation

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzParse: what is understood does nothing outside of the root, or fails.
func FuzzParse(f *testing.F) {
	f.Add("create-symlinks\n--link\n../../up::/up/l")
	f.Add("create-symlinks\n--link=t::/up/../host/canary")
	f.Add("create-symlinks\n--link=a::/up/host/new\n--link\nb::/abs/new")
	f.Add("update-ldcache\n--folder\n/up/host\n--folder=/abs")
	f.Add("enable-cuda-compat\n--host-driver-version=1.1\n--cuda-compat-container-root=/up/host")
	f.Fuzz(func(t *testing.T, text string) {
		o, err := Parse(append([]string{"nvidia-cdi-hook"}, strings.Split(text, "\n")...))
		if err != nil && o != nil {
			t.Fatal("an operation and an error")
		}
		if o == nil {
			return
		}
		dir := t.TempDir()
		root, host := filepath.Join(dir, "root"), filepath.Join(dir, "host")
		tree(t, host, map[string]string{"canary": "x", "libcuda.so.9.9": "so libcuda.so.1"})
		tree(t, root, map[string]string{"up": "-> ..", "abs": "-> " + host, "etc/ld.so.conf": host + "\n"})
		before := outside(t, dir)
		r, err := OpenRoot(root, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		_ = o.Apply(r)
		if after := outside(t, dir); after != before {
			t.Fatalf("outside was\n%s\nand is\n%s", before, after)
		}
	})
}

// outside lists all but what is in the root.
func outside(t *testing.T, dir string) string {
	var names []string
	must(t, filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() && p == filepath.Join(dir, "root") {
			return filepath.SkipDir
		}
		info, err := d.Info()
		if err == nil && !d.IsDir() {
			names = append(names, p+" "+info.Mode().String()+" "+info.ModTime().String())
		} else {
			names = append(names, p)
		}
		return err
	}))
	return strings.Join(names, "\n")
}
