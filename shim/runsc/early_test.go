package runsc

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// bootEarly boots a sandbox whose program ends with 7, with what was loaded early, and
// fails unless it does so. by is the pid of the runsc that created it.
func bootEarly(t *testing.T, early *Early, binary string) (by int) {
	t.Helper()
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	r, id, dir := prepare(t, func(*specs.Spec) {}, "/bin/sh", "-c", "echo $0; pwd; exit 7", "here")
	if binary != "" {
		r.Binary = binary
	}
	s, err := r.Boot(t.Context(), early, id, CreateOptions{Bundle: dir, PIDFile: filepath.Join(dir, "pid"), Stdio: [3]*os.File{nil, out, nil}})
	if err != nil {
		t.Fatalf("%+v", err)
	}
	t.Cleanup(s.Release)
	by = s.process.Pid
	sentry := sentryOf(t, dir)
	if err := s.Start(t.Context()); err != nil {
		t.Fatalf("%+v", err)
	}
	<-s.Gone()
	if status := ended(t, sentry); status.ExitStatus() != 7 {
		t.Errorf("the program ended with %d", status.ExitStatus())
	}
	if data, err := os.ReadFile(out.Name()); string(data) != "here\n/\n" {
		t.Errorf("the program wrote %q, %v", data, err)
	}
	if logs, _ := filepath.Glob(filepath.Join(dir, "*.log")); len(logs) > 0 {
		t.Errorf("%v is left", logs)
	}
	return by
}

func load(t *testing.T, path string) *Early {
	t.Helper()
	early, err := Load(path, "/no/such/bundle")
	if err != nil {
		t.Fatal(err)
	}
	return early
}

func TestBootEarly(t *testing.T) {
	r, _, _ := prepare(t, func(*specs.Spec) {}, "/bin/true")
	early := load(t, r.Binary)
	if by := bootEarly(t, early, ""); by != early.cmd.Process.Pid {
		t.Errorf("process %d created the sandbox, and %d had been loaded", by, early.cmd.Process.Pid)
	}
}

// TestEarlyIsOfNoUse: then it has ended, and another runsc does all of it.
func TestEarlyIsOfNoUse(t *testing.T) {
	r, _, _ := prepare(t, func(*specs.Spec) {}, "/bin/true")
	script := filepath.Join(t.TempDir(), "runsc")
	if err := os.WriteFile(script, []byte("#!/bin/sh\nunset BRIG_ARGV_FD\nexec "+r.Binary+" \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ loaded, used string }{
		"another runsc":   {r.Binary, script},
		"no runsc at all": {"/bin/true", ""},
		"one that died":   {"", ""},
		"none was loaded": {},
	} {
		t.Run(name, func(t *testing.T) {
			var early *Early
			switch {
			case c.loaded != "":
				early = load(t, c.loaded)
			case name == "one that died":
				early = load(t, r.Binary)
				if err := early.cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
			by := bootEarly(t, early, c.used)
			if early == nil {
				return
			}
			if by == early.cmd.Process.Pid {
				t.Error("it has created the sandbox")
			}
			if early.cmd.ProcessState == nil {
				t.Error("nobody has waited for it")
			}
		})
	}
}

// TestEarlyIsAStray: the sweep of a bundle whose shim was killed finds it by its arguments.
func TestEarlyIsAStray(t *testing.T) {
	r, _, _ := prepare(t, func(*specs.Spec) {}, "/bin/true")
	dir := t.TempDir()
	early, err := Load(r.Binary, filepath.Join(dir, "other"), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer early.Release()
	if err := KillStrays(dir); err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(early.cmd.Process.Pid, 0); err != unix.ESRCH {
		t.Errorf("it is there: %v", err)
	}
}

// TestLoadScript: it sees the command that it is executed for, and no other.
func TestLoadScript(t *testing.T) {
	script := filepath.Join(t.TempDir(), "runsc")
	for _, text := range []string{"#!/bin/sh\nexit 0\n", "", "#!"} {
		if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(script); err == nil {
			t.Errorf("%q is loaded early", text)
		}
	}
}

func TestReleaseEarly(t *testing.T) {
	r, _, _ := prepare(t, func(*specs.Spec) {}, "/bin/true")
	early := load(t, r.Binary)
	early.Release()
	if err := unix.Kill(early.cmd.Process.Pid, 0); err != unix.ESRCH {
		t.Errorf("it is there: %v", err)
	}
	if code := early.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("it ended with %d", code)
	}
	var none *Early
	none.Release()
}
