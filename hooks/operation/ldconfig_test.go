package operation

import (
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"brig/hooks/operation/ldso/elftest"
	"brig/internal/require"
)

// tree makes files and links below a folder: "-> target" is a link, "so NAME" a library
// with that soname, "/" a folder, anything else a file's content.
func tree(t testing.TB, root string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		file := filepath.Join(root, name)
		must(t, os.MkdirAll(filepath.Dir(file), 0o755))
		target, link := strings.CutPrefix(content, "-> ")
		soname, library := strings.CutPrefix(content, "so ")
		switch {
		case link:
			must(t, os.Symlink(target, file))
		case library:
			must(t, os.WriteFile(file, elftest.Library(elf.EM_X86_64, soname), 0o644))
		case content == "/":
			must(t, os.MkdirAll(file, 0o755))
		default:
			must(t, os.WriteFile(file, []byte(content), 0o644))
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// apply parses and applies a hook, and fails the test if it fails.
func apply(t testing.TB, root string, mounts []Mount, args ...string) {
	t.Helper()
	if err := tryApply(root, mounts, args...); err != nil {
		t.Fatalf("%v: %v", args, err)
	}
}

func tryApply(root string, mounts []Mount, args ...string) error {
	o, err := Parse(append([]string{"/usr/bin/nvidia-cdi-hook"}, args...))
	if err != nil {
		return err
	}
	r, err := OpenRoot(root, mounts)
	if err != nil {
		return err
	}
	defer r.Close()
	return o.Apply(r)
}

// cached is what a program prints of a root's cache, without its header.
func cached(t *testing.T, cache string) []string {
	t.Helper()
	out := runs(t, ldconfig(t), "-p", "-C", cache)
	var lines []string
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, "\t") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

func runs(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// ldconfig is glibc's, which every machine has that builds brig.
func ldconfig(t *testing.T) string {
	t.Helper()
	for _, p := range []string{"/sbin/ldconfig", "/usr/sbin/ldconfig"} {
		if _, err := os.Stat(p); err == nil {
			return p
		}
	}
	t.Fatal("ldconfig is missing: install libc-bin")
	return ""
}

// debian is a root as Debian lays it out, with what is odd in real ones.
var debian = map[string]string{
	"lib":                                                            "-> usr/lib",
	"lib64":                                                          "-> usr/lib64",
	"usr/lib64/ld-linux-x86-64.so.2":                                 "-> ../lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
	"etc/debian_version":                                             "12",
	"etc/ld.so.conf":                                                 "# all\ninclude /etc/ld.so.conf.d/*.conf\n/opt/odd///  # trailing\n\trelative\n/opt/none\n",
	"etc/ld.so.conf.d/libc.conf":                                     "/usr/local/lib\n",
	"etc/ld.so.conf.d/more.conf":                                     "include more/*.list\n",
	"etc/ld.so.conf.d/more/a.list":                                   "/opt/link\n",
	"etc/ld.so.conf.d/.hidden.conf":                                  "/opt/hidden\n",
	"etc/ld.so.conf.d/x86_64-linux-gnu.conf":                         "/usr/local/lib/x86_64-linux-gnu\n/lib/x86_64-linux-gnu\n/usr/lib/x86_64-linux-gnu\n",
	"usr/lib/x86_64-linux-gnu/libc.so.6":                             "so libc.so.6",
	"usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2":                  "so ld-linux-x86-64.so.2",
	"usr/lib/x86_64-linux-gnu/libm-2.36.so":                          "so libm.so.6",
	"usr/lib/x86_64-linux-gnu/libm.so":                               "/* GNU ld script */",
	"usr/lib/x86_64-linux-gnu/libz.so":                               "-> libz.so.1.2.13",
	"usr/lib/x86_64-linux-gnu/libz.so.1":                             "-> libz.so.1.2.13",
	"usr/lib/x86_64-linux-gnu/libz.so.1.2.13":                        "so libz.so.1",
	"usr/lib/x86_64-linux-gnu/libz.so.1.2.9":                         "so libz.so.1",
	"usr/lib/x86_64-linux-gnu/libold.so.3":                           "-> libold.so.3.1",
	"usr/lib/x86_64-linux-gnu/libold.so.3.1":                         "so libold.so.3",
	"usr/lib/x86_64-linux-gnu/libold.so.3.2":                         "so libold.so.3",
	"usr/lib/x86_64-linux-gnu/libnone.so.1":                          "so ",
	"usr/lib/x86_64-linux-gnu/libalias.so.9":                         "-> libz.so.1.2.13",
	"usr/lib/x86_64-linux-gnu/libdir.so.1":                           "/",
	"usr/lib/x86_64-linux-gnu/libabs.so.1":                           "-> /opt/odd/libabs.so.1.0",
	"usr/lib/x86_64-linux-gnu/notalib":                               "so notalib.so.1",
	"usr/lib/libz.so.1":                                              "so libz.so.1",
	"usr/local/lib/libz.so.1":                                        "so libz.so.1",
	"usr/local/lib/libn10.so.10":                                     "so libn10.so.10",
	"usr/local/lib/libn9.so.9":                                       "so libn9.so.9",
	"usr/local/lib/libn1e.so":                                        "so libn1e.so",
	"usr/local/lib/libbig20230101123456.so":                          "so libbig20230101123456.so",
	"opt/odd/libabs.so.1.0":                                          "so libabs.so.1",
	"opt/link":                                                       "-> real/",
	"opt/real/liblinked.so.1":                                        "so liblinked.so.1",
	"opt/hidden/libhidden.so.1":                                      "so libhidden.so.1",
	"usr/lib/x86_64-linux-gnu/glibc-hwcaps/x86-64-v3/libz.so.1":      "-> libz.so.1.2.13",
	"usr/lib/x86_64-linux-gnu/glibc-hwcaps/x86-64-v3/libz.so.1.2.13": "so libz.so.1",
	"usr/lib/x86_64-linux-gnu/glibc-hwcaps/x86-64-v2/libz.so.1.2.13": "so libz.so.1",
	"usr/lib/x86_64-linux-gnu/glibc-hwcaps/x86-64-v2/libm.so.6":      "so libm.so.6",
	"usr/lib/x86_64-linux-gnu/glibc-hwcaps/file":                     "x",
	"usr/local/lib/glibc-hwcaps/x86-64-v3/libz.so.1":                 "so libz.so.1",
	"opt/nv/libcuda.so":                                              "-> libcuda.so.1",
	"opt/nv/libcuda.so.580.65.06":                                    "so libcuda.so.1",
	"opt/nv/libnvidia-ml.so.580.65.06":                               "so libnvidia-ml.so.1",
}

// TestLdconfig: the cache and the links are what ldconfig makes of the same root.
func TestLdconfig(t *testing.T) {
	require.Root(t) // ldconfig -r is another program without chroot
	ours, theirs := t.TempDir(), t.TempDir()
	tree(t, ours, debian)
	tree(t, theirs, debian)
	must(t, os.WriteFile(filepath.Join(theirs, "etc/ld.so.conf.d/00-nvcr-1.conf"), []byte("/opt/nv\n"), 0o644))

	apply(t, ours, nil, "update-ldcache", "--folder", "/opt/nv", "--folder", "/usr/lib/x86_64-linux-gnu")
	for range 2 { // the first makes links to which others lead
		runs(t, ldconfig(t), "-r", theirs)
	}

	want, got := cached(t, theirs+"/etc/ld.so.cache"), cached(t, ours+"/etc/ld.so.cache")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the cache, ldconfig's (-) and ours (+):\n%s", diff)
	}
	for _, line := range []string{
		"libcuda.so.1 (libc6,x86-64) => /opt/nv/libcuda.so.1",
		`libz.so.1 (libc6,x86-64, hwcap: "x86-64-v3") => /usr/local/lib/glibc-hwcaps/x86-64-v3/libz.so.1`,
	} {
		if !slices.Contains(got, line) {
			t.Errorf("not in the cache: %s, in\n%s", line, strings.Join(got, "\n"))
		}
	}
	if diff := cmp.Diff(links(t, theirs), links(t, ours)); diff != "" {
		t.Errorf("links, ldconfig's (-) and ours (+):\n%s", diff)
	}
}

// links of a tree, with their targets.
func links(t *testing.T, root string) map[string]string {
	t.Helper()
	found := map[string]string{}
	must(t, filepath.WalkDir(root, func(p string, d os.DirEntry, err error) error {
		if err == nil && d.Type() == os.ModeSymlink {
			found[strings.TrimPrefix(p, root)], err = os.Readlink(p)
		}
		return err
	}))
	return found
}

// TestTheLinkerFindsIt: a real linker, in the root, finds a real library by our cache alone.
func TestTheLinkerFindsIt(t *testing.T) {
	require.Root(t) // chroot
	linker, program := "/lib64/ld-linux-x86-64.so.2", "/bin/cat"
	root := t.TempDir()
	tree(t, root, map[string]string{"etc/debian_version": "12", "bin": "/", "lib64": "/", "opt/real": "/"})
	copied := func(from, to string) {
		data, err := os.ReadFile(from)
		must(t, err)
		must(t, os.WriteFile(root+to, data, 0o755))
	}
	copied(linker, linker)
	copied(program, program)
	libc := strings.Fields(runs(t, linker, "--list", program))
	at := slices.Index(libc, "libc.so.6")
	if at < 0 || at+2 >= len(libc) {
		t.Fatalf("%s has no libc.so.6: %v", program, libc)
	}
	copied(libc[at+2], "/opt/real/libc-1.so")
	list := func() string {
		out, _ := exec.CommandContext(t.Context(), "chroot", root, linker, "--list", program).CombinedOutput()
		return string(out)
	}
	if out := list(); !strings.Contains(out, "libc.so.6: cannot open") {
		t.Fatalf("without a cache: %s", out)
	}
	apply(t, root, nil, "update-ldcache", "--folder=/opt/real")
	if out := list(); !strings.Contains(out, "libc.so.6 => /opt/real/libc.so.6 ") {
		t.Errorf("with our cache: %s", out)
	}
	if out := runs(t, "chroot", root, program, "/etc/debian_version"); out != "12" {
		t.Errorf("the program prints %q", out)
	}
}

// TestMountsToCome: what is not mounted yet counts as if it were.
func TestMountsToCome(t *testing.T) {
	const lib = "/usr/lib/x86_64-linux-gnu/"
	host := t.TempDir()
	tree(t, host, map[string]string{
		"libcuda.so.580.65.06": "so libcuda.so.1", "libnvidia-ml.so.580.65.06": "so libnvidia-ml.so.1",
		"folder/libin.so.2": "so libin.so.1", "folder/libin.so": "-> libin.so.2", "folder/libout.so.1": "-> ../libcuda.so.580.65.06",
		"nvidia-smi": "x",
	})
	links := []string{"create-symlinks", "--link", "libcuda.so.1::" + lib + "libcuda.so", "--link", "libcuda.so.580.65.06::" + lib + "libcuda.so.1"}
	cache := []string{"update-ldcache", "--folder", strings.TrimSuffix(lib, "/"), "--folder=/opt/folder"}

	mounted := t.TempDir()
	tree(t, mounted, debian)
	for _, name := range []string{"libcuda.so.580.65.06", "libnvidia-ml.so.580.65.06"} {
		data, err := os.ReadFile(filepath.Join(host, name))
		must(t, err)
		must(t, os.WriteFile(mounted+lib+name, data, 0o644))
	}
	tree(t, mounted, map[string]string{"opt/folder/libin.so.1": "so libin.so.1", "opt/folder/libin.so": "-> libin.so.1"})
	apply(t, mounted, nil, links...)
	apply(t, mounted, nil, cache...)

	toCome := t.TempDir()
	tree(t, toCome, debian)
	mounts := []Mount{
		{host + "/nvidia-smi", "/usr/bin/nvidia-smi"},
		{host + "/libcuda.so.580.65.06", lib + "libcuda.so.580.65.06"},
		{host + "/libnvidia-ml.so.580.65.06", "/lib/x86_64-linux-gnu/libnvidia-ml.so.580.65.06"},
		{host + "/folder", "/opt/folder"},
	}
	apply(t, toCome, mounts, links...)
	apply(t, toCome, mounts, cache...)

	want, got := cached(t, mounted+"/etc/ld.so.cache"), cached(t, toCome+"/etc/ld.so.cache")
	for i, line := range want { // no link can be made there
		want[i] = strings.Replace(line, "=> /opt/folder/libin.so.1", "=> /opt/folder/libin.so.2", 1)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the cache with mounts made (-) and to come (+):\n%s", diff)
	}
	if !slices.Contains(got, "libcuda.so.1 (libc6,x86-64) => /lib/x86_64-linux-gnu/libcuda.so.1") {
		t.Errorf("libcuda.so.1 is not in the cache:\n%s", strings.Join(got, "\n"))
	}
	if _, err := os.Lstat(toCome + "/usr/bin/nvidia-smi"); err == nil {
		t.Error("a mount point was made that no library needs")
	}
}

// TestSameBytes: a hundred roots that are alike become alike, and a second time changes
// nothing. A restored container is compared with the one that was saved.
func TestSameBytes(t *testing.T) {
	t.Parallel()
	first := ""
	for i := range 100 {
		root := filepath.Join(t.TempDir(), "root")
		tree(t, root, map[string]string{
			"usr/local/cuda/compat/libcuda.so.590.1.1": "so libcuda.so.1",
			"opt/nv/libcuda.so.580.65.06":              "so libcuda.so.1",
			"usr/lib/libz.so.1":                        "-> libz.so.1.3",
			"usr/lib/libz.so.1.2":                      "so libz.so.1",
			"usr/lib/libz.so.1.3":                      "so libz.so.1",
			"usr/lib64":                                "-> lib",
			"lib/libc.so.6":                            "so libc.so.6",
		})
		var got string
		for range 2 {
			apply(t, root, nil, "create-symlinks", "--link", "libcuda.so.1::/opt/nv/libcuda.so", "--link=/opt/a::/opt/b/c/d")
			apply(t, root, nil, "enable-cuda-compat", "--host-driver-version=580.65.06")
			apply(t, root, nil, "update-ldcache", "--folder=/opt/nv", "--folder=/opt/b")
			last := got
			if got = listing(t, root); last != "" && got != last {
				t.Fatalf("the second time changes it:\n%s", cmp.Diff(last, got))
			}
		}
		if first == "" {
			first = got
		}
		if got != first {
			t.Fatalf("root %d is another:\n%s", i, cmp.Diff(first, got))
		}
	}
}

// listing of a tree: names, modes, targets and contents.
func listing(t *testing.T, root string) string {
	t.Helper()
	var b strings.Builder
	must(t, filepath.WalkDir(root, func(p string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		must(t, err)
		var content string
		switch {
		case info.Mode().IsRegular():
			data, err := os.ReadFile(p)
			must(t, err)
			content = string(data)
		case info.Mode()&os.ModeSymlink != 0:
			content, err = os.Readlink(p)
		}
		fmt.Fprintf(&b, "%s %v %q\n", strings.TrimPrefix(p, root), info.Mode(), content)
		return err
	}))
	return b.String()
}
