package compat

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"brig/tests/census"
	"brig/tests/node"

	"golang.org/x/sys/unix"
)

// taskVersion is the version of the Task API that containerd 2 is told.
const taskVersion = 3

func TestMain(m *testing.M) {
	os.Exit(census.Around(func() int {
		code := m.Run()
		if err := errors.Join(node.RemoveCtrFolders()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
		return code
	}))
}

// TestVersion: the suite tries what it says, and the shim is told by what it can read
// whom it answers.
func TestVersion(t *testing.T) {
	eachVersion(t, func(t *testing.T, c *containerd) {
		if _, server, _ := strings.Cut(c.ctr(t, "version"), "Server:"); !strings.Contains(server, "Version:  "+c.version+".") {
			t.Errorf("server %q, want %s", server, c.version)
		}
		c.detach(t, nil, "v", "sleep", "1000")
		data, err := os.ReadFile(filepath.Join(c.bundle("v"), "bootstrap.json"))
		if c.version == "1.7" {
			if !errors.Is(err, os.ErrNotExist) {
				t.Errorf("containerd 1.7 keeps %s, %v", data, err)
			}
			return
		}
		var answer struct{ Version int }
		if err := errors.Join(err, json.Unmarshal(data, &answer)); err != nil || answer.Version != taskVersion {
			t.Errorf("%s speaks version %d of the Task API with the shim, want %d (%v)", c.version, answer.Version, taskVersion, err)
		}
	})
}

// TestRun: output and exit status arrive.
func TestRun(t *testing.T) {
	eachVersion(t, func(t *testing.T, c *containerd) {
		for range 3 {
			r := c.run(t, []string{"--rm"}, "short", "sh", "-c", "echo out; echo err >&2; exit 7")
			if r.Code != 7 || r.Stdout != "out\n" || !strings.Contains(r.Stderr, "err\n") {
				t.Errorf("want out, err and status 7: %s", r)
			}
		}
		r := c.run(t, []string{"--rm"}, "missing", "/no/such/program")
		if r.Code == 0 || !strings.Contains(r.Stderr, "/no/such/program") {
			t.Errorf("a missing program: %s", r)
		}
		c.awaitState(t, "missing", "")
		if shims := processes(t, "containerd-shim-brig-v1", c.dir); len(shims) > 0 {
			t.Errorf("after it has failed: shims %v; %s", shims, r)
		}
	})
}

// TestLife of a task that its client has left: exec, processes, signals, the end's
// status, and the events of all in containerd's order.
func TestLife(t *testing.T) {
	eachVersion(t, func(t *testing.T, c *containerd) {
		events := c.events(t)
		c.detach(t, nil, "life", "sleep", "1000")
		if r := c.try(t, "tasks", "exec", "--exec-id", "e1", "life", "sh", "-c", "echo in; exit 5"); r.Code != 5 || r.Stdout != "in\n" {
			t.Errorf("exec: %s", r)
		}
		pid, state := c.task(t, "life")
		if state != "RUNNING" || !strings.Contains(c.ctr(t, "tasks", "ps", "life"), pid) {
			t.Errorf("task %s is %s", pid, state)
		}
		c.ctr(t, "tasks", "kill", "--signal", "SIGKILL", "life")
		c.awaitState(t, "life", "STOPPED")
		c.expectExit(t, "life", 137)
		c.awaitState(t, "life", "")
		want := []string{"/tasks/create", "/tasks/start", "/tasks/exec-added", "/tasks/exec-started", "/tasks/exit", "/tasks/exit", "/tasks/delete"}
		eventually(t, 10*time.Second, func() error {
			if got := events(); fmt.Sprint(got) != fmt.Sprint(want) {
				return fmt.Errorf("events %v, want %v", got, want)
			}
			return nil
		})
	})
}

// TestLogURIs: output goes where ctr says without ctr.
func TestLogURIs(t *testing.T) {
	eachVersion(t, func(t *testing.T, c *containerd) {
		logger := filepath.Join(c.dir, "logger")
		if err := os.WriteFile(logger, []byte("#!/bin/sh\nexec 5>&-\ncat <&3 >\"$2\"\necho $CONTAINER_NAMESPACE/$CONTAINER_ID >>\"$2\"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		for id, uri := range map[string]string{"file": "file://", "binary": "binary://" + logger + "?to="} {
			log := filepath.Join(c.dir, id+".log")
			c.detach(t, []string{"--log-uri", uri + log}, id, "sh", "-c", "echo hello")
			c.awaitState(t, id, "STOPPED")
			want := "hello\n"
			if id == "binary" {
				want += c.namespace() + "/binary\n"
			}
			if got, err := os.ReadFile(log); err != nil || string(got) != want {
				t.Errorf("%s: %q, %v, want %q", uri, got, err, want)
			}
		}
	})
}

// TestRestart of containerd: the task runs on, is found again, and an end that
// containerd has missed is told.
func TestRestart(t *testing.T) {
	eachVersion(t, func(t *testing.T, c *containerd) {
		c.detach(t, nil, "stays", "sleep", "1000")
		sign := filepath.Join(c.dir, "go")
		c.detach(t, []string{"--mount", "type=bind,src=" + c.dir + ",dst=/host,options=rbind:ro"}, "ends",
			"sh", "-c", "while ! [ -e /host/go ]; do sleep 0.1; done; exit 3")
		pid, _ := c.task(t, "stays")
		c.stop(t)
		if err := os.WriteFile(sign, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		c.start(t)
		if again, state := c.task(t, "stays"); again != pid || state != "RUNNING" {
			t.Errorf("task %s is now %s, %q", pid, again, state)
		}
		if r := c.try(t, "tasks", "exec", "--exec-id", "e", "stays", "echo", "alive"); r.Stdout != "alive\n" {
			t.Errorf("exec after the restart: %s", r)
		}
		c.awaitState(t, "ends", "STOPPED")
		c.expectExit(t, "ends", 3)
	})
}

// TestDeadShim: containerd runs the verb delete, and nothing is left; also if it was
// away when the shim died.
func TestDeadShim(t *testing.T) {
	eachVersion(t, func(t *testing.T, c *containerd) {
		for _, away := range []bool{false, true} {
			id := "dead" + strconv.FormatBool(away)
			c.detach(t, nil, id, "sleep", "1000")
			shims := processes(t, "containerd-shim-brig-v1", "-namespace "+c.namespace(), "-id "+id+" ", c.dir)
			if len(shims) != 1 {
				t.Fatalf("shims: %v, want one", shims)
			}
			if away {
				c.stop(t)
			}
			pid, _ := strconv.Atoi(shims[0])
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			if away {
				c.start(t)
			}
			c.awaitState(t, id, "")
			eventually(t, 20*time.Second, func() error {
				if left := processes(t, c.bundle(id)); len(left) > 0 {
					return fmt.Errorf("left: processes %v", left)
				}
				if _, err := os.Stat(c.bundle(id)); err == nil {
					return errors.New("left: the bundle")
				}
				return nil
			})
		}
	})
}

// TestOptions: a configuration that a caller names is used, and a wrong one is an error
// that says what is wrong.
func TestOptions(t *testing.T) {
	eachVersion(t, func(t *testing.T, c *containerd) {
		good, bad := filepath.Join(c.dir, "brig.toml"), filepath.Join(c.dir, "bad.toml")
		c.write(t, "bad.toml", "[runsc]\nplatfrom = \"kvm\"\n")
		if r := c.run(t, []string{"--rm", "--runtime-config-path", good}, "good", "echo", "out"); r.Stdout != "out\n" {
			t.Errorf("with options: %s", r)
		}
		if r := c.run(t, []string{"--rm", "--runtime-config-path", bad}, "bad", "echo", "out"); r.Code == 0 || !strings.Contains(r.Stderr, `unknown key "runsc.platfrom" in line 2`) {
			t.Errorf("with options that are wrong: %s", r)
		}
	})
}

// TestRecursiveReadOnly: what is mounted below a volume is as read-only as the volume.
func TestRecursiveReadOnly(t *testing.T) {
	eachVersion(t, func(t *testing.T, c *containerd) {
		volume := filepath.Join(c.dir, "volume")
		if err := os.MkdirAll(filepath.Join(volume, "below"), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount("tmpfs", filepath.Join(volume, "below"), "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		r := c.run(t, []string{"--rm", "--mount", "type=bind,src=" + volume + ",dst=/v,options=rbind:rro"}, "ro",
			"sh", "-c", "touch /v/a; touch /v/below/a; ls -d /v/below")
		if strings.Count(r.Stderr, "Read-only file system") != 2 || !strings.HasPrefix(r.Stdout, "/v/below\n") {
			t.Errorf("want two refusals: %s", r)
		}
	})
}

// TestInfo: what newer ones ask a runtime before they use it.
func TestInfo(t *testing.T) {
	eachVersion(t, func(t *testing.T, c *containerd) {
		if c.version == "1.7" {
			return // it does not ask
		}
		info := c.ctr(t, "plugins", "inspect-runtime", "--runtime", "io.containerd.brig.v1")
		for _, want := range []string{`"io.containerd.brig.v1"`, `"rro"`} {
			if !strings.Contains(info, want) {
				t.Errorf("runtime info lacks %s:\n%s", want, info)
			}
		}
	})
}
