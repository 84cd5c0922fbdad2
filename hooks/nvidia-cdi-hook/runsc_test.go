package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"brig/hooks/operation/ldso/elftest"
	"brig/internal/require"
)

const libs = "usr/lib/x86_64-linux-gnu"

// hostile is a root as an image's maker could lay it out. In its files and links HOST is a
// folder of the host's.
type hostile struct {
	name   string
	files  map[string]string       // as of put
	make   func(root string) error // what put cannot
	mounts func(host string) []specs.Mount
	want   string   // a part of the error; empty: the container runs
	there  []string // regular files after it
}

var roots = []hostile{
	{name: "a friendly one", there: []string{"etc/ld.so.cache", "etc/ld.so.conf"}},
	{name: "etc leads up", files: map[string]string{"etc": "-> ../.."}, there: []string{"ld.so.cache"}},
	{name: "etc leads to the host's", files: map[string]string{"etc": "-> HOST/etc"}, want: "/etc"},
	{name: "etc leads through proc", files: map[string]string{"etc": "-> /proc/self/root/HOST/etc"}, want: "/etc"},
	{name: "etc is a file", files: map[string]string{"etc": "x"}, want: "not a directory"},
	{name: "the cache is a link", files: map[string]string{"etc/ld.so.cache": "-> HOST/etc/ld.so.cache"}, there: []string{"etc/ld.so.cache"}},
	{name: "the cache is a link up", files: map[string]string{"etc/ld.so.cache": "-> ../../../../../../HOST/etc/ld.so.cache"}, there: []string{"etc/ld.so.cache"}},
	{name: "the cache is a folder", files: map[string]string{"etc/ld.so.cache": "/"}, want: "ld.so.cache"},
	{name: "the cache is a FIFO", make: func(root string) error { return unix.Mkfifo(root+"/etc/ld.so.cache", 0o666) }, there: []string{"etc/ld.so.cache"}},
	{name: "ld.so.conf.d leads to the host's", files: map[string]string{"etc/ld.so.conf.d": "-> HOST/etc"}, want: "ld.so.conf.d"},
	{name: "ld.so.conf leads to the host's", files: map[string]string{"etc/ld.so.conf": "-> HOST/etc/ld.so.conf"}, there: []string{"etc/ld.so.cache"}},
	{name: "ld.so.conf is a FIFO", make: func(root string) error { return unix.Mkfifo(root+"/etc/ld.so.conf", 0o666) }, want: "not a regular file"},
	{name: "ld.so.conf is a device", make: func(root string) error {
		return unix.Mknod(root+"/etc/ld.so.conf", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5)))
	}, want: "not a regular file"},
	{name: "ld.so.conf is huge", make: func(root string) error { return sparse(root + "/etc/ld.so.conf") }, want: "bytes"},
	{name: "ld.so.conf includes itself and the host's", files: map[string]string{
		"etc/ld.so.conf": "include ld.so.conf /etc/*\ninclude ../../../../../HOST/etc/*\nHOST/lib\n/../../../../../HOST/lib\n",
	}, there: []string{"etc/ld.so.cache"}},
	{name: "the libraries lead to the root", files: map[string]string{"usr/lib": "-> /"}, there: []string{"etc/ld.so.cache"}},
	{name: "the libraries lead to the host's", files: map[string]string{libs: "-> ../../../../../../HOST/lib"}, want: "x86_64-linux-gnu"},
	{name: "the libraries lead in a circle", files: map[string]string{libs: "-> circle", "usr/lib/circle": "-> x86_64-linux-gnu"}, want: "symbolic links"},
	{name: "the libraries are no files", make: func(root string) error {
		return errors.Join(unix.Mkfifo(root+"/usr/lib/libfifo.so.1", 0o666),
			unix.Mknod(root+"/usr/lib/libzero.so.1", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))),
			unix.Mknod(root+"/usr/lib/libblock.so.1", unix.S_IFBLK|0o666, int(unix.Mkdev(7, 0))),
			sparse(root+"/usr/lib/libsparse.so.1"), os.Symlink(".", root+"/usr/lib/libself.so.1"),
			os.Symlink("libloop.so.1", root+"/usr/lib/libloop.so.1"))
	}, there: []string{"etc/ld.so.cache"}},
	{name: "libraries with other names of the host's", files: map[string]string{
		"usr/lib/liba.so.1": "so ../../../../../../HOST/lib/libnew.so", "usr/lib/libb.so.1": "so /HOST/lib/libnew.so", "usr/lib/libc.so.1": "so ..",
	}, there: []string{"etc/ld.so.cache"}},
	{name: "links lie where ours go", files: map[string]string{
		libs + "/libcuda.so": "-> HOST/lib/libhost.so.1", libs + "/libcuda.so.1": "-> ../../../../../../HOST/lib/libhost.so.1",
	}, there: []string{"etc/ld.so.cache"}},
	{name: "a folder lies where a link goes", files: map[string]string{libs + "/libcuda.so": "/"}, want: "libcuda.so"},
	{name: "CUDA leads to the host's", files: map[string]string{"usr/local/cuda": "-> HOST/cuda"}, there: []string{"etc/ld.so.cache"}},
	{name: "temporary names are taken", files: map[string]string{"etc/.brig-hook": "/"}, want: ".brig-hook"},
	{name: "a mount of the host's libraries", mounts: func(host string) []specs.Mount {
		return []specs.Mount{{Destination: "/" + libs, Type: "bind", Source: host + "/lib", Options: []string{"bind", "rw"}}}
	}, want: "invalid cross-device link"},
}

var hookArgs = [][]string{
	{"create-symlinks", "--link", "libcuda.so.1::/" + libs + "/libcuda.so", "--link=../libcuda.so.1::/opt/deep/er/libcuda.so"},
	{"enable-cuda-compat", "--host-driver-version=100.1.1"},
	{"update-ldcache", "--folder", "/" + libs, "--folder", "/opt/nv"},
}

// TestHostileRoots: runsc itself runs the hooks on roots that want the host's files. None
// of these changes, and every run ends.
func TestHostileRoots(t *testing.T) {
	bin := require.Runsc(t)
	if _, err := os.Stat(bin + "/nvidia-cdi-hook"); err != nil {
		t.Fatal("run `make build`: ", err)
	}
	for _, r := range roots {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			host, root := dir+"/host", dir+"/bundle/rootfs"
			put(t, host, "", map[string]string{
				"etc/ld.so.cache": "canary", "etc/ld.so.conf": "/canary\n", "lib/libhost.so.1": "so libhost.so.0", "lib/libc.so": "x",
				"cuda/compat/libcuda.so.999.1.1": "so libcuda.so.1",
			})
			put(t, root, host, r.files)
			put(t, root, host, map[string]string{libs + "/libcuda.so.580.65.06": "so libcuda.so.1", "etc/debian_version": "12"})
			must(t, copyFile("/bin/busybox", root+"/bin/busybox"))
			if r.make != nil {
				must(t, r.make(root))
			}
			before := snapshot(t, host)
			var mounts []specs.Mount
			if r.mounts != nil {
				mounts = r.mounts(host)
			}
			out, err := container(t, bin, dir, mounts)
			if diff := cmp.Diff(before, snapshot(t, host)); diff != "" {
				t.Errorf("the host's files changed:\n%s", diff)
			}
			switch {
			case r.want == "" && err != nil:
				t.Errorf("it fails: %v\n%s", err, out)
			case r.want != "" && (err == nil || !strings.Contains(out, "nvidia-cdi-hook") || !strings.Contains(out, r.want)):
				t.Errorf("it ends with %v and says, not %q:\n%s", err, r.want, out)
			}
			for _, name := range r.there {
				if info, err := os.Lstat(filepath.Join(root, name)); err != nil || !info.Mode().IsRegular() {
					t.Errorf("%s is not a regular file: %v, %v", name, info, err)
				}
			}
			if data, _ := os.ReadFile(filepath.Join(root, "etc/ld.so.cache")); bytes.Contains(data, []byte("libhost")) {
				t.Error("the host's library is in the cache")
			}
		})
	}
}

// container runs /bin/busybox true in the bundle of dir, with the hooks in front.
func container(t *testing.T, bin, dir string, mounts []specs.Mount) (string, error) {
	t.Helper()
	evil := []string{"LD_PRELOAD=/evil.so", "LD_LIBRARY_PATH=/evil", "NVIDIA_CTK_DEBUG=true"}
	spec := specs.Spec{
		Version: "1.1.0",
		Process: &specs.Process{Args: []string{"/bin/busybox", "true"}, Cwd: "/", Env: evil},
		Root:    &specs.Root{Path: "rootfs"},
		Mounts:  mounts,
		Linux: &specs.Linux{Namespaces: []specs.LinuxNamespace{{Type: specs.PIDNamespace}, {Type: specs.NetworkNamespace},
			{Type: specs.MountNamespace}, {Type: specs.IPCNamespace}, {Type: specs.UTSNamespace}}},
		Hooks: &specs.Hooks{},
	}
	for _, args := range hookArgs {
		spec.Hooks.CreateContainer = append(spec.Hooks.CreateContainer,
			specs.Hook{Path: bin + "/nvidia-cdi-hook", Args: append([]string{"nvidia-cdi-hook"}, args...), Env: evil})
	}
	data, err := json.Marshal(spec)
	must(t, err)
	must(t, os.WriteFile(dir+"/bundle/config.json", data, 0o600))
	id := fmt.Sprintf("hook-%x", sha256.Sum256([]byte(dir)))[:20]
	flags := []string{"--root", dir + "/state", "--network=none", "--ignore-cgroups", "--overlay2=none", "--debug", "--debug-log", dir + "/log/"}
	t.Cleanup(func() { _ = unix.Unmount(dir+"/state/null-netns", unix.MNT_DETACH) }) // runsc leaves it to the next
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, bin+"/deps/runsc", append(flags, "run", "--bundle", dir+"/bundle", id)...).CombinedOutput()
	if err != nil {
		_ = exec.Command(bin+"/deps/runsc", append(flags, "delete", "--force", id)...).Run()
		logs, _ := filepath.Glob(dir + "/log/*gofer*")
		for _, l := range logs {
			text, _ := os.ReadFile(l)
			for line := range strings.Lines(string(text)) {
				if strings.Contains(line, "nvidia-cdi-hook: ") {
					out = append(out, line...)
				}
			}
		}
	}
	return string(out), err
}

// put makes files below a folder: "-> TARGET" is a link, "so NAME" a library with that
// soname, "/" a folder. What is there already, or lies behind a link, is left alone.
func put(t *testing.T, dir, host string, files map[string]string) {
	t.Helper()
	must(t, os.MkdirAll(dir, 0o755))
	root, err := os.OpenRoot(dir)
	must(t, err)
	defer root.Close()
	for name, content := range files {
		content = strings.ReplaceAll(strings.ReplaceAll(content, "/HOST", "HOST"), "HOST", host)
		if root.MkdirAll(filepath.Dir(name), 0o755) != nil {
			continue
		}
		if _, err := root.Lstat(name); err == nil {
			continue
		}
		if target, ok := strings.CutPrefix(content, "-> "); ok {
			must(t, root.Symlink(target, name))
		} else if soname, ok := strings.CutPrefix(content, "so "); ok {
			must(t, root.WriteFile(name, elftest.Library(elf.EM_X86_64, soname), 0o644))
		} else if content == "/" {
			must(t, root.Mkdir(name, 0o755))
		} else {
			must(t, root.WriteFile(name, []byte(content), 0o755))
		}
	}
}

func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	must(t, filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		var data []byte
		if info.Mode().IsRegular() {
			data, err = os.ReadFile(p)
		}
		files[p] = fmt.Sprintf("%v %v %q", info.Mode(), info.ModTime(), data)
		return err
	}))
	return files
}

func copyFile(from, to string) error {
	data, err := os.ReadFile(from)
	return errors.Join(err, os.MkdirAll(filepath.Dir(to), 0o755), os.WriteFile(to, data, 0o755))
}

// sparse makes a file that claims a tebibyte.
func sparse(name string) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(string(elftest.Library(elf.EM_X86_64, "libsparse.so.1")))
	return errors.Join(err, f.Truncate(1<<40))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
