package operation

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// TestWithoutARoot: nothing is done where no root was opened.
func TestWithoutARoot(t *testing.T) {
	for _, o := range []Operation{symlinks{{"a", "/b"}}, ldcache{}, cudaCompat{driver: version{1}}} {
		for _, r := range []*Root{nil, {}} {
			if err := o.Apply(r); !errors.Is(err, errdefs.ErrFailedPrecondition) {
				t.Errorf("%T: %v", o, err)
			}
		}
	}
	if err := (&Root{}).Close(); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("Close: %v", err)
	}
}

func TestOpenRoot(t *testing.T) {
	dir := t.TempDir()
	tree(t, dir, map[string]string{"file": "x", "slash": "-> /"})
	for _, path := range []string{"", "relative", "/", "//", "/proc/..", dir + "/slash", dir + "/file", dir + "/none"} {
		if r, err := OpenRoot(path, nil); err == nil {
			t.Errorf("%q is opened: %v", path, r.Close())
		}
	}
	for _, m := range []Mount{{}, {"/a", ""}, {"", "/a"}, {"a", "/a"}, {"/a", "a"}} {
		if r, err := OpenRoot(dir, []Mount{m}); err == nil {
			t.Errorf("%v is taken: %v", m, r.Close())
		}
	}
}

// TestSymlinks: what is in the way, and where links lead.
func TestSymlinks(t *testing.T) {
	host := t.TempDir()
	tree(t, host, map[string]string{"canary": "x"})
	before := listing(t, host)
	// Where one leads out by mistake, it leads to the canary, not to the machine's own files.
	for _, c := range []struct {
		name  string
		files map[string]string
		link  string
		want  string // where the link is
		err   string
	}{
		{"parents are made", nil, "t::/a/b/c/l", "a/b/c/l", ""},
		{"the same link", map[string]string{"l": "-> t"}, "t::/l", "l", ""},
		{"another link", map[string]string{"l": "-> " + host + "/canary"}, "t::/l", "l", ""},
		{"a file", map[string]string{"l": "x"}, "t::/l", "l", ""},
		{"a folder", map[string]string{"l": "/"}, "t::/l", "", "is a directory"},
		{"a link to a folder is replaced", map[string]string{"d": "/", "l": "-> d"}, "t::/l", "l", ""},
		{"a parent leads up", map[string]string{"a/up": "-> ../.."}, "t::/a/up/l", "l", ""},
		{"a parent leads to the root", map[string]string{"a": "-> /"}, "t::/a" + host + "/l", host + "/l", ""},
		{"a parent leads to the host's", map[string]string{"a": "-> " + host}, "t::/a/l", "", "file exists"},
		{"a parent of a missing one leads there", map[string]string{"a": "-> " + host}, "t::/a/b/l", "", "file exists"},
		{"a parent is a file", map[string]string{"a": "x"}, "t::/a/l", "", "not a directory"},
		{"parents in a circle", map[string]string{"a": "-> b", "b": "-> a"}, "t::/a/l", "", "too many levels"},
		{"the name leads up", nil, "t::/../../../l", "l", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := t.TempDir()
			tree(t, root, c.files)
			err := tryApply(root, nil, "create-symlinks", "--link", c.link)
			if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
				t.Errorf("got %v, want %q", err, c.err)
			}
			if target, err := os.Readlink(filepath.Join(root, c.want)); c.want != "" && target != "t" {
				t.Errorf("%s leads to %q, %v", c.want, target, err)
			}
			if diff := cmp.Diff(before, listing(t, host)); diff != "" {
				t.Errorf("the host's files changed:\n%s", diff)
			}
			if strings.Contains(listing(t, root), temporary) {
				t.Error("a temporary name is left")
			}
		})
	}
}

// TestSwaps: a root that changes while it is worked on leads nowhere else either.
func TestSwaps(t *testing.T) {
	dir := t.TempDir()
	host, root := dir+"/host", dir+"/root"
	tree(t, dir, map[string]string{"host/lib/canary": "x", "root/a/lib": "/", "root/link": "-> ../../../../../../../.." + host})
	before := listing(t, host)
	stop := make(chan struct{})
	var swapping sync.WaitGroup
	swapping.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				_ = unix.Renameat2(unix.AT_FDCWD, root+"/a", unix.AT_FDCWD, root+"/link", unix.RENAME_EXCHANGE)
			}
		}
	})
	made := 0
	for i := range 500 {
		if tryApply(root, nil, "create-symlinks", "--link", fmt.Sprintf("t::/a/lib/l%d", i)) == nil {
			made++
		}
		_ = tryApply(root, nil, "update-ldcache", "--folder=/a/lib")
	}
	close(stop)
	swapping.Wait()
	if diff := cmp.Diff(before, listing(t, host)); diff != "" {
		t.Errorf("the host's files changed:\n%s", diff)
	}
	if made == 0 {
		t.Error("no link was made")
	}
}

// TestBounds: a root that is made to take for ever is an error.
func TestBounds(t *testing.T) {
	t.Parallel()
	many := func(n int, line string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, line+"\n", i)
		}
		return b.String()
	}
	for name, make := range map[string]func(root string) error{
		"a long file": func(root string) error {
			return os.WriteFile(root+"/etc/ld.so.conf", []byte(strings.Repeat("#", maxConfFile+1)), 0o644)
		},
		"many folders": func(root string) error {
			return os.WriteFile(root+"/etc/ld.so.conf", []byte(many(maxFolders+1, "/d%d")), 0o644)
		},
		"many files": func(root string) error {
			for i := range maxConfFiles + 1 {
				if err := os.WriteFile(fmt.Sprintf("%s/etc/%d.conf", root, i), nil, 0o644); err != nil {
					return err
				}
			}
			return os.WriteFile(root+"/etc/ld.so.conf", []byte("include *.conf"), 0o644)
		},
		"many that match": func(root string) error {
			for i := range maxMatches + 1 {
				if err := os.Mkdir(fmt.Sprintf("%s/etc/%d", root, i), 0o755); err != nil {
					return err
				}
			}
			return os.WriteFile(root+"/etc/ld.so.conf", []byte("include /etc/*/x.conf"), 0o644)
		},
		"many patterns": func(root string) error {
			return os.WriteFile(root+"/etc/ld.so.conf", []byte(many(maxListed+1, "include /none/%d*")), 0o644)
		},
		"a chain": func(root string) error {
			for i := range maxConfDepth + 2 {
				if err := os.WriteFile(fmt.Sprintf("%s/etc/%d", root, i), fmt.Appendf(nil, "include %d", i+1), 0o644); err != nil {
					return err
				}
			}
			return os.WriteFile(root+"/etc/ld.so.conf", []byte("include 0"), 0o644)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			tree(t, root, map[string]string{"etc": "/", "lib": "/"})
			must(t, make(root))
			if err := tryApply(root, nil, "update-ldcache"); !errors.Is(err, errdefs.ErrResourceExhausted) {
				t.Errorf("got %v", err)
			}
			if _, err := os.Lstat(root + "/etc/ld.so.cache"); err == nil {
				t.Error("a cache is written")
			}
		})
	}
}

// TestBoundOfLibraries: of what a folder holds and of what all folders do.
func TestBoundOfLibraries(t *testing.T) {
	root := t.TempDir()
	tree(t, root, map[string]string{"lib/liba.so": "so liba.so", "lib/libb.so": "so libb.so"})
	r, err := OpenRoot(root, nil)
	must(t, err)
	defer r.Close()
	for _, c := range []struct {
		pass pass
		want error
	}{
		{pass{libraries: maxLibraries - 2, names: maxNames - 2}, nil},
		{pass{libraries: maxLibraries - 1}, errdefs.ErrResourceExhausted},
		{pass{names: maxNames - 1}, errdefs.ErrResourceExhausted},
		{pass{bytes: maxCache}, errdefs.ErrResourceExhausted},
	} {
		c.pass.seen = map[string]bool{}
		s := scan{root: r, pass: c.pass}
		if err := s.folder("/lib", ""); !errors.Is(err, c.want) {
			t.Errorf("%+v: %v, want %v", c.pass, err, c.want)
		}
	}
}

// TestASlowRoot: what takes too long is an error, whatever is done then.
func TestASlowRoot(t *testing.T) {
	dir := t.TempDir()
	tree(t, dir, map[string]string{"usr/local/cuda/compat/libcuda.so.9.9": "x", "lib/liba.so.1": "so liba.so.1"})
	r, err := OpenRoot(dir, nil)
	must(t, err)
	defer r.Close()
	d, err := (&scan{root: r}).open("/lib")
	must(t, err)
	defer d.Close()
	r.ends = time.Now().Add(-time.Nanosecond)
	for _, o := range []Operation{symlinks{{"a", "/b"}}, ldcache{}, cudaCompat{driver: version{1}, dir: compatDir}} {
		if err := o.Apply(r); !errors.Is(err, errdefs.ErrResourceExhausted) {
			t.Errorf("%T: %v", o, err)
		}
	}
	if _, _, err := (&scan{root: r}).inspect(d, "liba.so.1"); !errors.Is(err, errdefs.ErrResourceExhausted) {
		t.Errorf("in the midst of a folder: %v", err)
	}
}

// TestMusl: a root without glibc is left as it is.
func TestMusl(t *testing.T) {
	root := t.TempDir()
	tree(t, root, map[string]string{"lib/ld-musl-x86_64.so.1": "so libc.musl-x86_64.so.1", "opt/nv/libcuda.so.1": "so libcuda.so.1"})
	before := listing(t, root)
	apply(t, root, nil, "update-ldcache", "--folder=/opt/nv")
	if diff := cmp.Diff(before, listing(t, root)); diff != "" {
		t.Error(diff)
	}
}

// TestAnEmptyRoot is what an image of one static program has. Every user of it can read
// what is made, though the process has a umask.
func TestAnEmptyRoot(t *testing.T) {
	root, host := t.TempDir(), t.TempDir()
	tree(t, host, map[string]string{"libcuda.so.1": "so libcuda.so.1"})
	defer unix.Umask(unix.Umask(0o077))
	apply(t, root, []Mount{{host + "/libcuda.so.1", "/opt/nv/libcuda.so.1"}}, "update-ldcache", "--folder=/opt/nv")
	got := listing(t, root)
	for _, want := range []string{
		"/etc drwxr-xr-x ", "/opt/nv drwxr-xr-x ", "/opt/nv/libcuda.so.1 -rw-r--r-- ", "/etc/ld.so.cache -rw-r--r-- ",
		`/etc/ld.so.conf -rw-r--r-- "include /etc/ld.so.conf.d/*.conf\n"`, `.conf -rw-r--r-- "/opt/nv\n"`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%s is not in\n%s", want, got)
		}
	}
}
