package task

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"brig/internal/journal"
	"brig/internal/require"
	"brig/shim/bundle"
	"brig/shim/stdio"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// setUpPod starts a pod without a network.
func setUpPod(t *testing.T) *fixture {
	f := planPod(t)
	_, err := f.StartPod(t.Context(), f.request.ID)
	f.must(err)
	if _, err := f.StartPod(t.Context(), f.request.ID); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("a second start: %v", err)
	}
	if _, err := f.StartPod(t.Context(), "other"); !errdefs.IsNotFound(err) {
		t.Errorf("start of another pod: %v", err)
	}
	return f
}

// planPod creates a pod that is not started.
func planPod(t *testing.T) *fixture {
	f := setUp(t)
	request := f.podRequest()
	t.Cleanup(func() {
		if err := f.ShutdownPod(context.Background(), f.request.ID); err != nil && !errdefs.IsNotFound(err) {
			t.Error(err)
		}
	})
	f.must(f.CreatePod(request))
	if err := f.CreatePod(request); !errdefs.IsAlreadyExists(err) {
		t.Errorf("a second pod: %v", err)
	}
	return f
}

func (f *fixture) podRequest() PodRequest {
	f.request.Config.Sandboxes.Guest = filepath.Join(require.Runsc(f.t), "guest")
	return PodRequest{
		Pod:    bundle.Pod{ID: f.request.ID, CgroupParent: "/", Hostname: "pod", DNS: &bundle.DNS{Servers: []string{"1.2.3.4"}, Searches: []string{"a", "b"}}},
		Bundle: f.request.Bundle, Config: f.request.Config,
	}
}

// join creates a container in the pod.
func (f *fixture) join(id string, change func(*CreateRequest, *specs.Spec), argv ...string) (CreateRequest, error) {
	f.t.Helper()
	r, spec := f.request, f.spec
	process := *spec.Process
	process.Args = argv
	spec.Process, spec.Linux = &process, &specs.Linux{CgroupsPath: "/" + f.request.ID + "-" + id}
	r.ID, r.Bundle = id, bundle.Bundle(f.t.TempDir())
	spec.Root = &specs.Root{Path: busyboxRoot(f.t), Readonly: true}
	if change != nil {
		change(&r, &spec)
	}
	data, err := json.Marshal(spec)
	f.must(err)
	f.must(os.WriteFile(filepath.Join(string(r.Bundle), "config.json"), data, 0o600))
	_, err = f.Create(f.t.Context(), r)
	return r, err
}

// busyboxRoot is a root of its own: the host's has mounts in it on some machines.
func busyboxRoot(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	busybox, err := os.ReadFile("/bin/busybox")
	if err == nil {
		err = errors.Join(os.Chmod(root, 0o755), os.Mkdir(filepath.Join(root, "bin"), 0o755), os.Mkdir(filepath.Join(root, "etc"), 0o755),
			os.WriteFile(filepath.Join(root, "bin/busybox"), busybox, 0o755), os.WriteFile(filepath.Join(root, "bin/broken"), []byte("\x7fELF"), 0o755))
	}
	for _, name := range []string{"sh", "cat", "hostname", "grep", "sleep", "stty", "true", "test"} {
		err = errors.Join(err, os.Symlink("busybox", filepath.Join(root, "bin", name)))
	}
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func TestPod(t *testing.T) {
	f := setUpPod(t)
	out := journal.Spec{Path: filepath.Join(t.TempDir(), "out"), Max: journal.Chunk}
	r, err := f.join("a", func(r *CreateRequest, spec *specs.Spec) {
		spec.Mounts = []specs.Mount{{Destination: "/dev/shm", Type: "tmpfs", Source: "shm"}}
		r.Streams, spec.Root.Readonly = stdio.Config{Stdout: out.URI()}, false
	}, "/bin/sh", "-c", "hostname; cat /etc/hostname /etc/resolv.conf; echo >> /etc/hosts && echo the node pays; echo shared > /dev/shm/x; exit 3")
	f.must(err)
	if _, err := f.join("ab", func(_ *CreateRequest, spec *specs.Spec) {
		spec.Mounts = []specs.Mount{{Destination: "/dev/shm", Type: "tmpfs", Source: "shm"}}
	}, "/bin/sh", "-c", "until grep -q shared /dev/shm/x; do sleep 0.1; done; exec sleep 1000"); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"ab", "a"} {
		_, err = f.Start(t.Context(), id)
		f.must(err)
	}
	exit, err := f.Wait(t.Context(), "a", "")
	f.must(err)
	if b, err := os.ReadFile(out.Path); err != nil || string(b) != "pod\npod\nsearch a b\nnameserver 1.2.3.4\n" || exit.Code != 3 {
		t.Errorf("status %d, output %q, %v", exit.Code, b, err)
	}
	if saved, err := r.Bundle.Exit(); err != nil || saved.Code != 3 {
		t.Errorf("on record: %v, %v", saved, err)
	}
	_, _, err = f.Delete(t.Context(), "a")
	f.must(err)
	if status, err := f.PodStatus(f.request.ID); err != nil || !status.Ready {
		t.Errorf("after one container's end: %+v, %v", status, err)
	}
	f.must(f.AddExec("ab", "x", &specs.Process{Args: []string{"/bin/sh", "-c", "test -e /dev/shm/x"}, Cwd: "/", Env: []string{"PATH=/bin:/usr/bin"}}, stdio.Config{}))
	_, err = f.StartExec(t.Context(), "ab", "x")
	f.must(err)
	if exit, err := f.Wait(t.Context(), "ab", "x"); err != nil || exit.Code != 0 {
		t.Errorf("exec: %v, %v", exit, err)
	}
	f.must(f.StopPod(t.Context(), f.request.ID))
	f.must(f.StopPod(t.Context(), f.request.ID))
	if exit, err := f.Wait(t.Context(), "ab", ""); err != nil || exit.Code != killed {
		t.Errorf("what outlived the pod: %v, %v", exit, err)
	}
	if exit, err := f.WaitPod(t.Context(), f.request.ID); err != nil || exit.Code != killed {
		t.Errorf("the pod: %v, %v", exit, err)
	}
	f.must(f.ShutdownPod(t.Context(), f.request.ID))
	if !f.Empty() {
		t.Error("something is left")
	}
	f.told("Created", "Created", "Started", "Started", `Exited "" 3`, "Deleted 3", "ExecAdded", "ExecStarted", `Exited "x" 0`,
		`Exited "" 137`, "Deleted 137")
}

// containerd shuts down what its caller has not waited for.
func TestShutdownOfAPodThatIsBeingStarted(t *testing.T) {
	f := planPod(t)
	over := make(chan struct{})
	go func() {
		defer close(over)
		_, _ = f.StartPod(context.WithoutCancel(t.Context()), f.request.ID) // either may come first
	}()
	eventually(t, func() error {
		f.Shim.mu.Lock()
		defer f.Shim.mu.Unlock()
		if len(f.creating) == 0 && f.sandbox == nil {
			return errors.New("nothing is being created")
		}
		return nil
	})
	f.must(f.ShutdownPod(t.Context(), f.request.ID))
	<-over
	if !f.Empty() {
		t.Error("something is left")
	}
}

func TestJoinedTerminal(t *testing.T) {
	f := setUpPod(t)
	out := journal.Spec{Path: filepath.Join(t.TempDir(), "out"), Max: journal.Chunk}
	_, err := f.join("a", func(r *CreateRequest, spec *specs.Spec) {
		r.Streams, spec.Process.Terminal = stdio.Config{Stdout: out.URI(), Terminal: true}, true
	}, "/bin/sh", "-c", "stty size; test -t 0 && echo terminal; exit 4")
	f.must(err)
	f.must(f.Resize(t.Context(), "a", "", 132, 43))
	_, err = f.Start(t.Context(), "a")
	f.must(err)
	exit, err := f.Wait(t.Context(), "a", "")
	f.must(err)
	if b, err := os.ReadFile(out.Path); err != nil || !strings.HasPrefix(string(b), "43 132\r\nterminal\r\n") || exit.Code != 4 {
		t.Errorf("status %d, output %q, %v", exit.Code, b, err)
	}
}

// A caller may delete a pod's root container before the others.
func TestTheRootIsDeletedFirst(t *testing.T) {
	f := setUp(t, "/bin/sleep", "1000")
	f.spec.Annotations = map[string]string{"io.kubernetes.cri.container-type": "sandbox"}
	f.must(f.create())
	f.must(f.start())
	f.spec.Annotations = nil
	_, err := f.join("a", nil, "/bin/sleep", "1000")
	f.must(err)
	_, err = f.Start(t.Context(), "a")
	f.must(err)
	f.must(f.Kill(t.Context(), f.request.ID, "", unix.SIGKILL, false))
	if exit, err := f.Wait(t.Context(), "a", ""); err != nil || exit.Code != killed {
		t.Errorf("%v, %v", exit, err)
	}
	f.wait("")
	f.must(f.remove())
	if _, _, err := f.Delete(t.Context(), "a"); err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob("/sys/fs/cgroup/*/" + f.request.ID + "-a"); len(left) > 0 {
		t.Errorf("cgroups are left: %v", left)
	}
}

func TestJoinedAndNeverStarted(t *testing.T) {
	f := setUpPod(t)
	_, err := f.join("a", nil, "/bin/true")
	f.must(err)
	f.must(f.Kill(t.Context(), "a", "", unix.SIGTERM, false))
	if exit, err := f.Wait(t.Context(), "a", ""); err != nil || exit.Code != 143 {
		t.Errorf("killed: %v, %v", exit, err)
	}
	_, err = f.join("b", nil, "/bin/broken")
	f.must(err)
	if _, err := f.Start(t.Context(), "b"); err == nil {
		t.Error("no such program was started")
	}
	if exit, err := f.Wait(t.Context(), "b", ""); err != nil || exit.Code != failedStart {
		t.Errorf("not started: %v, %v", exit, err)
	}
	_, err = f.join("c", nil, "/bin/true")
	f.must(err)
	for _, id := range []string{"a", "b", "c"} {
		_, _, err := f.Delete(t.Context(), id)
		f.must(err)
	}
	if status, err := f.PodStatus(f.request.ID); err != nil || !status.Ready {
		t.Errorf("the pod: %+v, %v", status, err)
	}
}

func TestWhatMayNotJoin(t *testing.T) {
	f := setUpPod(t)
	for name, change := range map[string]func(*CreateRequest, *specs.Spec){
		"another sandbox's": func(_ *CreateRequest, spec *specs.Spec) {
			spec.Annotations = map[string]string{"io.kubernetes.cri.container-type": "container", "io.kubernetes.cri.sandbox-id": "other"}
		},
		"another policy": func(_ *CreateRequest, spec *specs.Spec) {
			spec.Annotations = map[string]string{"brig/cidr-allowlist": "1.2.3.4/32"}
		},
		"a terminal that is none": func(r *CreateRequest, _ *specs.Spec) { r.Streams.Terminal = true },
	} {
		if r, err := f.join("a", change, "/bin/true"); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", name, err)
		} else if _, err := os.Stat(r.Bundle.Dir()); !os.IsNotExist(err) {
			t.Errorf("%s: left in the bundle: %v", name, err)
		}
	}
}

func TestTheSentryOfAPodDies(t *testing.T) {
	f := setUpPod(t)
	for _, id := range []string{"a", "b"} {
		_, err := f.join(id, nil, "/bin/sleep", "1000")
		f.must(err)
		_, err = f.Start(t.Context(), id)
		f.must(err)
	}
	f.must(unix.Kill(f.PID(f.request.ID), unix.SIGKILL))
	for _, id := range []string{"a", "b"} {
		if exit, err := f.Wait(t.Context(), id, ""); err != nil || exit.Code != killed {
			t.Errorf("%s: %v, %v", id, exit, err)
		}
	}
	if exit, err := f.WaitPod(t.Context(), f.request.ID); err != nil || exit.Code != killed {
		t.Errorf("the pod: %v, %v", exit, err)
	}
	if _, err := f.join("c", nil, "/bin/true"); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("join a dead pod: %v", err)
	}
}
