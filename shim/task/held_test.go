package task

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"brig/internal/journal"
	"brig/internal/sandbox"
	"brig/internal/slot"
	"brig/shim/runsc"
	"brig/shim/stdio"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// netImage is image of a sandbox that has a network.
func netImage(t *testing.T) (path string, at int) {
	t.Helper()
	return imageOf(t, func(f *fixture) {
		f.door.open = true
		f.spec.Linux.Namespaces = append(f.spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.NetworkNamespace})
	})
}

// holding is a shim whose sandbox has loaded the image of a counting program and waits.
func holding(t *testing.T, path string) (f *fixture, out string) {
	t.Helper()
	f, out = toHold(t, path)
	f.must(f.create())
	if !f.door.last.Waiting || f.door.last.Intruded == nil {
		t.Errorf("the gate was asked %+v", f.door.last)
	}
	return f, out
}

func toHold(t *testing.T, path string) (f *fixture, out string) {
	t.Helper()
	f, out = counting(t)
	f.opts.Namespace = f.request.Config.Containerd.Namespace
	f.door.open = true
	f.spec.Annotations = map[string]string{sandbox.AnnotationSlot: "true"}
	f.spec.Linux.Namespaces = append(f.spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.NetworkNamespace})
	f.request.Checkpoint = path
	return f, out
}

// silent wants nothing to be written, for a while.
func silent(t *testing.T, out string, how string) {
	t.Helper()
	time.Sleep(2 * time.Second)
	if text, err := os.ReadFile(out); err != nil || len(text) > 0 {
		t.Errorf("%s, it has run: %q, %v", how, text, err)
	}
}

// TestHeld: a program that would write every 20 ms writes nothing before its start, and then
// goes on at once from where it was.
func TestHeld(t *testing.T) {
	path, at := netImage(t)
	f, out := holding(t, path)
	if err := f.start(); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("a start before the claim: %v", err)
	}
	began := time.Now()
	if _, _, err := f.Processes(t.Context(), f.request.ID); err != nil || time.Since(began) > glance/2 {
		t.Errorf("its kernel, which does not answer, was asked: %v after %v", err, time.Since(began))
	}
	if _, err := f.Stats(t.Context(), f.request.ID); err != nil || time.Since(began) > glance/2 {
		t.Errorf("its kernel, which does not answer, was asked: %v after %v", err, time.Since(began))
	}
	silent(t, out, "held")
	policy := map[string]string{sandbox.AnnotationCIDRAllowlist: ""}
	f.must(f.ClaimHeld(t.Context(), f.request.ID, slot.Held{Annotations: policy}))
	if r := f.door.last; r.Waiting || r.Intruded == nil || len(r.Annotations) != 1 {
		t.Errorf("the gate was asked %+v", r)
	}
	if err := f.ClaimHeld(t.Context(), f.request.ID, slot.Held{}); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("a second claim: %v", err)
	}
	silent(t, out, "claimed")
	f.must(f.start())
	all := numbers(t, out, 20)
	for i, n := range all {
		if n != all[0]+i || n < at {
			t.Fatalf("it counts %v, want each number once from %d on or later", all, at)
		}
	}
	said := journal.Spec{Path: filepath.Join(t.TempDir(), "exec"), Max: journal.Chunk}
	f.must(f.AddExec(f.request.ID, "a", &specs.Process{Args: []string{"/bin/sh", "-c", "echo from exec"}, Cwd: "/", Env: []string{"PATH=/bin"}}, stdio.Config{Stdout: said.URI()}))
	_, err := f.StartExec(t.Context(), f.request.ID, "a")
	f.must(err)
	if code := f.wait("a"); code != 0 {
		t.Errorf("an exec ended with %d", code)
	}
	f.outputIs(said, "from exec\n")
	f.must(f.Kill(t.Context(), f.request.ID, "", unix.SIGTERM, false))
	f.ends(6)
	f.told("Created", "Started", "ExecAdded", "ExecStarted", `Exited "a" 0`, `Exited "" 6`, "Deleted 6")
}

// heldGofer of the sandbox's root, which is stopped.
func (f *fixture) heldGofer() int {
	f.t.Helper()
	entries, err := os.ReadDir("/proc")
	f.must(err)
	for _, e := range entries {
		cmdline, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err == nil && strings.HasPrefix(string(cmdline), "runsc-gofer") && strings.Contains(string(cmdline), f.request.ID) {
			pid, err := strconv.Atoi(e.Name())
			f.must(err)
			return pid
		}
	}
	f.t.Fatal("there is no gofer")
	return 0
}

// TestHeldEnds: however one ends that was not started, nothing of it has run, and nothing is
// left.
func TestHeldEnds(t *testing.T) {
	path, _ := netImage(t)
	claim := func(f *fixture) error { return f.ClaimHeld(f.t.Context(), f.request.ID, slot.Held{}) }
	for name, end := range map[string]func(f *fixture){
		"deleted":             func(f *fixture) {},
		"killed":              func(f *fixture) { f.must(f.Kill(f.t.Context(), f.request.ID, "", unix.SIGKILL, true)) },
		"claimed and deleted": func(f *fixture) { f.must(claim(f)) },
		"refused by the gate": func(f *fixture) {
			f.door.refuse = errors.New("the policy is missing")
			if err := claim(f); err == nil || !strings.Contains(err.Error(), "the policy is missing") {
				f.t.Errorf("the gate was not asked: %v", err)
			}
			if err := f.start(); !errdefs.IsFailedPrecondition(err) {
				f.t.Errorf("a start: %v", err)
			}
		},
		"asked for what it was not made with": func(f *fixture) {
			wish := slot.Held{Annotations: map[string]string{sandbox.AnnotationPIDs: "5"}}
			if err := f.ClaimHeld(f.t.Context(), f.request.ID, wish); !errdefs.IsInvalidArgument(err) {
				f.t.Errorf("a limit of processes: %v", err)
			}
		},
		"its kernel is killed": func(f *fixture) { f.must(unix.Kill(f.PID(f.request.ID), unix.SIGKILL)) },
		"its gofer is killed":  func(f *fixture) { f.must(unix.Kill(f.heldGofer(), unix.SIGKILL)) },
	} {
		t.Run(name, func(t *testing.T) {
			f, out := holding(t, path)
			gofer := f.heldGofer()
			end(f)
			began := time.Now()
			f.must(f.remove())
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("the delete took %v", took)
			}
			if text, err := os.ReadFile(out); err != nil || len(text) > 0 {
				t.Errorf("it has run: %q, %v", text, err)
			}
			if !f.Empty() || unix.Kill(gofer, 0) == nil {
				t.Error("something is left")
			}
		})
	}
}

// TestHeldIsLetByAnother: whoever lets a gofer go on that the shim has stopped ends the
// sandbox.
func TestHeldIsLetByAnother(t *testing.T) {
	path, _ := netImage(t)
	f, _ := holding(t, path)
	f.must(unix.Kill(f.heldGofer(), unix.SIGCONT))
	if code := f.wait(""); code != failedStart {
		t.Errorf("it ended with %d", code)
	}
	if err := f.ClaimHeld(t.Context(), f.request.ID, slot.Held{}); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("a claim: %v", err)
	}
	f.must(f.remove())
}

// TestHeldRefuses: what cannot be held leaves nothing.
func TestHeldRefuses(t *testing.T) {
	path, _ := netImage(t)
	for name, c := range map[string]struct {
		change func(*fixture)
		want   string
	}{
		"in another namespace": {func(f *fixture) { f.opts.Namespace = "test" }, "for brigd alone"},
		"the gate refuses":     {func(f *fixture) { f.door.refuse = errors.New("a link too many") }, "a link too many"},
		"other capabilities": {func(f *fixture) {
			f.spec.Process.Capabilities = &specs.LinuxCapabilities{Effective: []string{"CAP_SYS_ADMIN"}}
		}, `"Capabilities" does not match`},
		"a terminal": {func(f *fixture) { f.request.Streams.Terminal = true }, "neither a terminal"},
	} {
		t.Run(name, func(t *testing.T) {
			f, _ := toHold(t, path)
			c.change(f)
			if err := f.create(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v; want %q", err, c.want)
			}
			if !f.Empty() {
				t.Error("something is left")
			}
			f.told()
		})
	}
}

// TestHaltGofer takes no process that is another sandbox's.
func TestHaltGofer(t *testing.T) {
	dir := t.TempDir()
	other := exec.CommandContext(t.Context(), "sleep", "60")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	state := `{"goferPid": ` + strconv.Itoa(other.Process.Pid) + `}`
	if err := os.WriteFile(filepath.Join(dir, "a_sandbox:a.state"), []byte(state), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := runsc.HaltGofer(dir, "a", "a", "/b"); err == nil || !strings.Contains(err.Error(), "not of this sandbox") {
		t.Errorf("%v", err)
	}
	if _, err := runsc.HaltGofer(dir, "b", "b", "/b"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("one that there is not: %v", err)
	}
}
