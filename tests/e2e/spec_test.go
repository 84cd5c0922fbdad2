package e2e

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"brig/tests/image/oci"
	"brig/tests/node"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	ctdoci "github.com/containerd/containerd/v2/pkg/oci"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// rootfsFolder is a folder with the busybox image's files.
func rootfsFolder(t *testing.T) string {
	t.Helper()
	img, err := image(oci.Recipe{})
	if err != nil {
		t.Fatal(err)
	}
	dir, files := t.TempDir(), mutate.Extract(img)
	defer files.Close()
	for archive := tar.NewReader(files); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return dir
		} else if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, h.Name)
		switch h.Typeflag {
		case tar.TypeDir:
			err = os.MkdirAll(path, 0o755)
		case tar.TypeSymlink:
			err = os.Symlink(h.Linkname, path)
		case tar.TypeLink:
			err = os.Link(filepath.Join(dir, h.Linkname), path)
		default:
			var data []byte
			if data, err = io.ReadAll(archive); err == nil {
				err = os.WriteFile(path, data, os.FileMode(h.Mode)|0o600)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// spec is containerd's default spec, edited.
func spec(t *testing.T, rootfs, name string, edit func(*specs.Spec), argv ...string) *specs.Spec {
	t.Helper()
	s, err := ctdoci.GenerateSpec(namespaces.WithNamespace(t.Context(), ctrNamespace), nil, &containers.Container{ID: name},
		ctdoci.WithDefaultPathEnv, ctdoci.WithProcessArgs(argv...), ctdoci.WithRootFSPath(rootfs))
	if err != nil {
		t.Fatal(err)
	}
	edit(s)
	return s
}

// specRun is `ctr run --rm` of containerd's default spec, edited.
func specRun(t *testing.T, n *node.Node, rootfs, name string, edit func(*specs.Spec), argv ...string) node.Result {
	t.Helper()
	file := specFile(t, spec(t, rootfs, name, edit, argv...))
	r := n.Ctr(t, ctrNamespace, "run", "--rm", "--runtime", "io.containerd.brig.v1", "--config", file, name)
	if r.Code != 0 {
		n.Ctr(t, ctrNamespace, "containers", "rm", name)
	}
	return r
}

func specFile(t *testing.T, s *specs.Spec) string {
	t.Helper()
	data, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestRefusedSpecs: a reason in one line, at once, and nothing left.
func TestRefusedSpecs(t *testing.T) {
	f := useCtr(t)
	rootfs := rootfsFolder(t)
	if r := specRun(t, f.Node, rootfs, "accepted", func(*specs.Spec) {}, "true"); r.Code != 0 {
		t.Fatalf("unedited: %s", r)
	}
	before := holdings(t, f)
	for i, c := range []struct {
		want string
		edit func(*specs.Spec)
	}{
		{"startContainer hooks", func(s *specs.Spec) { s.Hooks = &specs.Hooks{StartContainer: []specs.Hook{{Path: "/bin/true"}}} }},
		{"linux.sysctl: runsc does not set kernel.shmmax", func(s *specs.Spec) { s.Linux.Sysctl = map[string]string{"kernel.shmmax": "1"} }},
		{"linux.maskedPaths", func(s *specs.Spec) { s.Linux.MaskedPaths = []string{"/etc/shadow"} }},
		{"runsc has no filesystem of type ext4", func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/d", Type: "ext4", Source: "/dev/sda1"})
		}},
		{"open /no/such/folder: no such file", func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/d", Type: "bind", Source: "/no/such/folder", Options: []string{"rbind"}})
		}},
		{"is not the sandbox's", func(s *specs.Spec) { s.Linux.Namespaces[0].Path = "/proc/1/ns/pid" }},
		{`"NAME" is no NAME=value`, func(s *specs.Spec) { s.Process.Env = append(s.Process.Env, "NAME") }},
		{"a NUL character", func(s *specs.Spec) { s.Process.Args = append(s.Process.Args, "a\x00b") }},
		{"no such file", func(s *specs.Spec) { s.Root.Path = "/no/such/rootfs" }},
	} {
		begin := time.Now()
		r := specRun(t, f.Node, rootfs, "refused-"+strconv.Itoa(i), c.edit, "true")
		_, reason, _ := strings.Cut(r.Stderr, "ctr: ") // a warning of ctr's own may precede it
		if r.Code == 0 || !strings.Contains(reason, c.want) || strings.Count(reason, "\n") != 1 {
			t.Errorf("want one line with %q: %s", c.want, r)
		}
		if took := time.Since(begin); took > 5*time.Second {
			t.Errorf("%s: refused after %v", c.want, took)
		}
	}
	unchanged(t, f, before)
}

// TestLargeSpec: the environment may be as large as containerd lets it be.
func TestLargeSpec(t *testing.T) {
	t.Parallel()
	n := useCtr(t)
	r := specRun(t, n.Node, rootfsFolder(t), "large", func(s *specs.Spec) {
		for i := range 20_000 {
			s.Process.Env = append(s.Process.Env, "NAME_"+strconv.Itoa(i)+"=value")
		}
	}, "sh", "-c", "env | grep -c NAME_")
	if r.Code != 0 || r.Stdout != "20000\n" {
		t.Error(r)
	}
}

// TestSeccomp: a filter holds for the program and for every exec, and the engines'
// default one lets a threaded program run.
func TestSeccomp(t *testing.T) {
	t.Parallel()
	n := useCtr(t)
	noMkdir := spec(t, rootfsFolder(t), "seccomp", func(s *specs.Spec) {
		s.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{
			{Names: []string{"mkdir", "mkdirat"}, Action: specs.ActErrno},
		}}
	}, "sh", "-c", "touch /file && mkdir /folder; sleep 1000")
	r := n.Ctr(t, ctrNamespace, "run", "-d", "--runtime", "io.containerd.brig.v1", "--config", specFile(t, noMkdir), "seccomp")
	t.Cleanup(func() {
		n.Ctr(t, ctrNamespace, "tasks", "rm", "-f", "seccomp")
		n.Ctr(t, ctrNamespace, "containers", "rm", "seccomp")
	})
	if r.Code != 0 {
		t.Fatal(r)
	}
	eventually(t, 10*time.Second, func() error {
		if r := n.Ctr(t, ctrNamespace, "tasks", "exec", "--exec-id", "look", "seccomp", "ls", "/file"); r.Code != 0 {
			return errors.New(r.String())
		}
		return nil
	})
	r = n.Ctr(t, ctrNamespace, "tasks", "exec", "--exec-id", "e", "seccomp", "sh", "-c", "ls -d /folder; mkdir /another")
	if r.Code == 0 || !strings.Contains(r.Stderr, "/folder: No such file") || !strings.Contains(r.Stderr, "Operation not permitted") {
		t.Errorf("mkdir is forbidden: %s", r)
	}

	python := importPython(t, n.Node)
	program := "import threading; t = threading.Thread(target=print, args=['from a thread']); t.start(); t.join()"
	r = n.Ctr(t, ctrNamespace, "run", "--rm", "--runtime", "io.containerd.brig.v1", "--seccomp", python, "threads", "python3", "-c", program)
	if r.Code != 0 || r.Stdout != "from a thread\n" {
		t.Errorf("with containerd's default filter: %s", r)
	}
}

func importPython(t *testing.T, n *node.Node) string {
	t.Helper()
	img, err := image(oci.Recipe{Python: true})
	if err != nil {
		t.Fatal(err)
	}
	archive, ref := filepath.Join(t.TempDir(), "image.tar"), oci.Recipe{Python: true}.Ref()
	if err := oci.WriteArchive(archive, ref, img); err != nil {
		t.Fatal(err)
	}
	if r := n.Ctr(t, ctrNamespace, "image", "import", archive); r.Code != 0 {
		t.Fatal(r)
	}
	return ref
}

// TestHooks: those that runsc runs, in their order, each with the container's id.
func TestHooks(t *testing.T) {
	t.Parallel()
	n := useCtr(t)
	dir := t.TempDir()
	record := filepath.Join(dir, "record")
	script := "#!/bin/sh\nid=$(sed 's/.*\"id\":\"\\([^\"]*\\)\".*/\\1/')\necho $1 $id >>" + record + "\n"
	if err := os.WriteFile(filepath.Join(dir, "hook"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	hook := func(name string) []specs.Hook {
		return []specs.Hook{{Path: filepath.Join(dir, "hook"), Args: []string{"hook", name}}}
	}
	r := specRun(t, n.Node, rootfsFolder(t), "hooks", func(s *specs.Spec) {
		s.Hooks = &specs.Hooks{CreateRuntime: hook("createRuntime"), CreateContainer: hook("createContainer"),
			Poststart: hook("poststart"), Poststop: hook("poststop")}
	}, "true")
	if r.Code != 0 {
		t.Fatal(r)
	}
	got, err := os.ReadFile(record)
	// runsc's gofer runs createContainer hooks while runsc itself goes on: the standard
	// wants them after createRuntime.
	want := "createContainer hooks\ncreateRuntime hooks\npoststart hooks\npoststop hooks\n"
	if err != nil || string(got) != want {
		t.Errorf("%v; hooks ran as\n%swant\n%s", err, got, want)
	}
}

// TestUserNamespace: the program is root in the sandbox, and its files are not root's
// on the host.
func TestUserNamespace(t *testing.T) {
	t.Parallel()
	n := useCtr(t)
	volume := t.TempDir()
	rootfs, ids := rootfsFolder(t), []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 65536}}
	// Snapshotters do this to a root for a user namespace.
	for _, dir := range []string{volume, rootfs} {
		if err := os.Chown(dir, 100000, 100000); err != nil {
			t.Fatal(err)
		}
	}
	s := spec(t, "rootfs", "userns", func(s *specs.Spec) {
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
		s.Linux.UIDMappings, s.Linux.GIDMappings = ids, ids
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/volume", Type: "bind", Source: volume, Options: []string{"rbind"}})
	}, "sh", "-c", "touch /volume/file && test $(id -u) = 0 && test $(stat -c %u /volume/file) = 0")
	if status := clientRun(t, n.Node, s, "userns", []mount.Mount{{Type: "bind", Source: rootfs, Options: []string{"rbind", "rw"}}}); status != 0 {
		t.Errorf("status %d", status)
	}
	info, err := os.Stat(filepath.Join(volume, "file"))
	if err != nil || owner(info) != 100000 {
		t.Errorf("%v; the file's owner is %d, want 100000", err, owner(info))
	}
}

// clientRun runs a container by containerd's Go client, without runtime options, and
// returns its status.
func clientRun(t *testing.T, n *node.Node, s *specs.Spec, name string, mounts []mount.Mount) uint32 {
	t.Helper()
	c, err := client.New(n.Containerd())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx := namespaces.WithNamespace(t.Context(), ctrNamespace)
	container, err := c.NewContainer(ctx, name, client.WithRuntime("io.containerd.brig.v1", nil), client.WithSpec(s))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := container.Delete(ctx); err != nil {
			t.Error(err)
		}
	}()
	task, err := container.NewTask(ctx, cio.NullIO, client.WithRootFS(mounts))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if _, err := task.Delete(ctx, client.WithProcessKill); err != nil {
			t.Error(err)
		}
	}()
	exit, err := task.Wait(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := task.Start(ctx); err != nil {
		t.Fatal(err)
	}
	return (<-exit).ExitCode()
}
