package task

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"brig/internal/journal"
	"brig/internal/require"
	"brig/internal/sandbox"
	"brig/internal/slot"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// setUpSlot boots one, whose network namespace is empty.
func setUpSlot(t *testing.T) *fixture {
	f := setUp(t)
	f.door.open = true
	f.opts.Namespace = f.request.Config.Containerd.Namespace
	f.request.Config.Sandboxes.Guest = filepath.Join(require.Runsc(t), "guest")
	f.spec.Annotations = map[string]string{sandbox.AnnotationSlot: "true"}
	f.spec.Process.Args, f.spec.Hostname = []string{"nothing"}, "slot"
	f.spec.Linux.Namespaces = append(f.spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.NetworkNamespace})
	f.must(f.create())
	if !f.door.last.Waiting || f.door.last.Intruded != nil {
		t.Errorf("the gate was asked %+v", f.door.last)
	}
	return f
}

// claim of a shell script, its output and what is changed of it.
func (f *fixture) claim(script string, change func(*slot.Claim)) journal.Spec {
	f.t.Helper()
	out := journal.Spec{Path: filepath.Join(f.t.TempDir(), "out"), Max: journal.Chunk}
	c := slot.Claim{Spec: f.programSpec(script), Rootfs: f.programRoot(), Stdout: out.URI()}
	if change != nil {
		change(&c)
	}
	f.must(f.Claim(f.t.Context(), f.request.ID, c))
	return out
}

func (f *fixture) programSpec(script string) *specs.Spec {
	return &specs.Spec{
		Version: specs.Version, Hostname: "slot", Annotations: map[string]string{sandbox.AnnotationCIDRAllowlist: ""},
		Process: &specs.Process{Args: []string{"/bin/sh", "-c", script}, Cwd: "/", Env: []string{"PATH=/bin"}},
		Root:    &specs.Root{Path: "rootfs"},
		Linux: &specs.Linux{
			CgroupsPath: f.spec.Linux.CgroupsPath, Namespaces: f.spec.Linux.Namespaces,
			Resources: &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: new(int64(200 << 20))}},
		},
		Mounts: []specs.Mount{{Destination: "/proc", Type: "proc", Source: "proc"}},
	}
}

func (f *fixture) programRoot() []slot.Mount {
	return []slot.Mount{{Type: "bind", Source: busyboxRoot(f.t), Options: []string{"rbind", "rw"}}}
}

func (f *fixture) outputIs(j journal.Spec, want string) {
	f.t.Helper()
	if b, err := os.ReadFile(j.Path); err != nil || string(b) != want {
		f.t.Errorf("output %q, %v; want %q", b, err, want)
	}
}

func TestSlot(t *testing.T) {
	f := setUpSlot(t)
	if err := f.start(); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("a start of no program: %v", err)
	}
	waiter := make(chan uint32)
	go func() { waiter <- f.wait("") }() // who asks before the claim is answered, too
	out := f.claim("echo $$; hostname; exit 3", func(c *slot.Claim) { c.Spec.Hostname = "named" })
	if limit := f.memoryLimit(); limit != "209715200" {
		t.Errorf("the memory limit is %s", limit)
	}
	if err := f.Claim(t.Context(), f.request.ID, slot.Claim{}); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("a second claim: %v", err)
	}
	f.must(f.start())
	if r := f.door.last; r.Waiting || r.Intruded == nil || r.Annotations[sandbox.AnnotationCIDRAllowlist] != "" || len(r.Annotations) != 1 {
		t.Errorf("the gate was asked %+v", r)
	}
	if code := f.wait(""); code != 3 || <-waiter != 3 {
		t.Errorf("status %d", code)
	}
	f.outputIs(out, "1\nnamed\n")
	f.crashed(false)
	if saved, err := f.request.Bundle.Exit(); err != nil || saved.Code != 3 {
		t.Errorf("on record: %v, %v", saved, err)
	}
	f.must(f.remove())
	if !f.Empty() {
		t.Error("something is left")
	}
	f.told("Created", "Started", `Exited "" 3`, "Deleted 3")
}

// A program that is not for this sandbox is refused, and with it the slot.
func TestSlotRefuses(t *testing.T) {
	for name, change := range map[string]func(*slot.Claim){
		"no such program": func(c *slot.Claim) { c.Spec.Process.Args = []string{"/none"} },
		"another namespace": func(c *slot.Claim) {
			c.Spec.Linux.Namespaces = []specs.LinuxNamespace{{Type: specs.NetworkNamespace, Path: "/proc/self/ns/net"}}
		},
		"another sandbox": func(c *slot.Claim) {
			c.Spec.Annotations = map[string]string{"io.kubernetes.cri.container-type": "container", "io.kubernetes.cri.sandbox-id": "x"}
		},
		"processes of the host": func(c *slot.Claim) { c.Spec.Linux.Resources.Pids = &specs.LinuxPids{Limit: new(int64(5))} },
	} {
		t.Run(name, func(t *testing.T) {
			f := setUpSlot(t)
			c := slot.Claim{
				Spec: &specs.Spec{
					Version: specs.Version, Process: &specs.Process{Args: []string{"/bin/sh"}, Cwd: "/"}, Root: &specs.Root{Path: "rootfs"},
					Linux: &specs.Linux{CgroupsPath: f.spec.Linux.CgroupsPath, Resources: new(specs.LinuxResources)},
				},
				Rootfs: []slot.Mount{{Type: "bind", Source: busyboxRoot(t), Options: []string{"rbind", "rw"}}},
			}
			change(&c)
			if err := f.Claim(t.Context(), f.request.ID, c); err == nil {
				t.Error("it was taken")
			}
			if err := f.start(); !errdefs.IsFailedPrecondition(err) {
				t.Errorf("started: %v", err)
			}
			f.must(f.remove())
			if !f.Empty() {
				t.Error("something is left")
			}
		})
	}
}

// A slot whose kernel dies ends, and one that nobody claims is removed, whole.
func TestSlotEnds(t *testing.T) {
	f := setUpSlot(t)
	f.must(unix.Kill(f.PID(f.request.ID), unix.SIGKILL))
	if code := f.wait(""); code != killed {
		t.Errorf("status %d", code)
	}
	f.crashed(true)
	f.must(f.remove())
	f.told("Created", `Exited "" 137`, "Deleted 137")

	f = setUpSlot(t)
	f.must(f.remove())
	f.told("Created", `Exited "" 137`, "Deleted 137")

	f = setUpSlot(t)
	f.claim("exec sleep 1000", nil)
	f.must(f.start())
	f.must(unix.Kill(f.PID(f.request.ID), unix.SIGKILL))
	if code := f.wait(""); code != killed {
		t.Errorf("status %d", code)
	}
	f.crashed(true)
	f.must(f.remove())
}

// Only brigd makes slots.
func TestSlotIsBrigds(t *testing.T) {
	f := setUp(t, "true")
	f.spec.Annotations = map[string]string{sandbox.AnnotationSlot: "true"}
	if err := f.create(); !errdefs.IsPermissionDenied(err) {
		t.Errorf("%v", err)
	}
}

// What a checkpoint of a claimed slot holds goes on, with the new sandbox's name.
func TestSlotIsRestored(t *testing.T) {
	f := setUpSlot(t)
	const script = "i=0; while :; do i=$((i+1)); hostname; sleep 0.1; done"
	f.claim(script, func(c *slot.Claim) { c.Spec.Hostname = "first" })
	f.must(f.start())
	image := filepath.Join(t.TempDir(), "image")
	f.must(f.Checkpoint(t.Context(), f.request.ID, image, true))
	f.wait("")
	f.must(f.remove())

	f.spec.Hostname, f.request.Checkpoint = "second", image
	f.spec.Process.Args, f.spec.Process.Env = []string{"/bin/sh", "-c", script}, []string{"PATH=/bin"}
	f.spec.Mounts = []specs.Mount{{Destination: "/proc", Type: "proc", Source: "proc"}}
	for _, held := range []bool{false, true} {
		f.spec.Root = &specs.Root{Path: busyboxRoot(t)}
		out := journal.Spec{Path: filepath.Join(t.TempDir(), "again"), Max: journal.Chunk}
		f.request.Streams.Stdout = out.URI()
		f.spec.Annotations = nil
		if held {
			f.spec.Annotations = map[string]string{sandbox.AnnotationSlot: "true"}
		}
		f.must(os.RemoveAll(filepath.Join(string(f.request.Bundle), "brig")))
		f.must(f.request.Bundle.RemoveSlot())
		f.must(f.create())
		if held {
			silent(t, out.Path, "held")
			f.must(f.ClaimHeld(t.Context(), f.request.ID, slot.Held{}))
		}
		f.must(f.start())
		eventually(t, func() error {
			b, err := os.ReadFile(out.Path)
			if err == nil && !strings.Contains(string(b), "second\n") {
				err = errdefs.ErrNotFound
			}
			return err
		})
		f.must(f.Kill(t.Context(), f.request.ID, "", unix.SIGKILL, false))
		if code := f.wait(""); code != killed {
			t.Errorf("status %d", code)
		}
		f.must(f.remove())
		if data, _ := json.Marshal(f.tasks); string(data) != "{}" {
			t.Errorf("left: %s", data)
		}
	}
}
