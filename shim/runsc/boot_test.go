package runsc

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// bootStarter is a booted sandbox whose runsc stays.
func bootStarter(t *testing.T, argv ...string) (s *Starter, dir string, sentry *os.Process) {
	t.Helper()
	r, id, dir := prepare(t, func(*specs.Spec) {}, argv...)
	s, err := r.Boot(t.Context(), nil, id, CreateOptions{Bundle: dir, PIDFile: filepath.Join(dir, "pid")})
	if err != nil {
		t.Fatalf("%+v", err)
	}
	t.Cleanup(s.Release)
	return s, dir, sentryOf(t, dir)
}

// parent of a process; it stands behind the name, which is in brackets.
func parent(t *testing.T, pid int) int {
	t.Helper()
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		t.Fatal(err)
	}
	of, err := strconv.Atoi(strings.Fields(string(stat[bytes.LastIndexByte(stat, ')'):]))[2])
	if err != nil {
		t.Fatal(err)
	}
	return of
}

// stayed fails unless the runsc that created the sandbox is there, as its parent.
func stayed(t *testing.T, s *Starter, sentry *os.Process) {
	t.Helper()
	select {
	case <-s.Gone():
		t.Fatal("runsc has not stayed")
	default:
	}
	if of := parent(t, sentry.Pid); of == os.Getpid() {
		t.Errorf("the sentry's parent is this process")
	}
}

func TestStarterStarts(t *testing.T) {
	s, dir, sentry := bootStarter(t, "/bin/sh", "-c", "exit 7")
	stayed(t, s, sentry)
	if err := s.Start(t.Context()); err != nil {
		t.Fatalf("%+v", err)
	}
	<-s.Gone()
	if status := ended(t, sentry); status.ExitStatus() != 7 {
		t.Errorf("the program ended with %d", status.ExitStatus())
	}
	if logs, _ := filepath.Glob(filepath.Join(dir, "*.log")); len(logs) > 0 {
		t.Errorf("%v is left", logs)
	}
}

// TestStarterHandsOverADeadSentry: while runsc stays, nobody else can wait for it.
func TestStarterHandsOverADeadSentry(t *testing.T) {
	s, _, sentry := bootStarter(t, "/bin/true")
	stayed(t, s, sentry)
	if err := sentry.Kill(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-s.Gone():
	case <-time.After(10 * time.Second):
		t.Fatal("runsc stays behind a dead sentry")
	}
	state, err := sentry.Wait()
	if err != nil {
		t.Fatal(err)
	}
	if state.String() != "signal: killed" {
		t.Error(state)
	}
	if err := s.Start(t.Context()); err == nil {
		t.Error("a dead sandbox was started")
	}
}

func TestStarterDies(t *testing.T) {
	s, _, sentry := bootStarter(t, "/bin/sh", "-c", "exit 7")
	starter, err := os.FindProcess(parent(t, sentry.Pid))
	if err != nil {
		t.Fatal(err)
	}
	if err := starter.Kill(); err != nil {
		t.Fatal(err)
	}
	<-s.Gone()
	if err := s.Start(t.Context()); err != nil {
		t.Fatalf("another runsc does not start it: %+v", err)
	}
	if status := ended(t, sentry); status.ExitStatus() != 7 {
		t.Errorf("the program ended with %d", status.ExitStatus())
	}
}

func TestStarterIsReleased(t *testing.T) {
	s, _, sentry := bootStarter(t, "/bin/true")
	s.Release()
	if of := parent(t, sentry.Pid); of != os.Getpid() {
		t.Errorf("the sentry's parent is %d, not this process", of)
	}
	s.Release()
}

func TestStarterTellsWhyItFailed(t *testing.T) {
	s, _, _ := bootStarter(t, "/no/such/program")
	err := s.Start(t.Context())
	if err == nil || !strings.HasPrefix(err.Error(), "runsc start ") || !strings.Contains(err.Error(), "/no/such/program") {
		t.Errorf("%v", err)
	}
}

func TestBootIsGivenUp(t *testing.T) {
	r, id, dir := prepare(t, func(*specs.Spec) {}, "/bin/true")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Boot(ctx, nil, id, CreateOptions{Bundle: dir, PIDFile: filepath.Join(dir, "pid")}); err == nil || !strings.Contains(err.Error(), "canceled") {
		t.Error(err)
	}
}

// TestBootByAnotherBuild: gVisor's own runsc does not know how to stay.
func TestBootByAnotherBuild(t *testing.T) {
	r, id, dir := prepare(t, func(*specs.Spec) {}, "/bin/sh", "-c", "exit 7")
	other := filepath.Join(t.TempDir(), "runsc")
	script := "#!/bin/sh\nunset BRIG_START_FD\nexec " + r.Binary + " \"$@\"\n"
	if err := os.WriteFile(other, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	r.Binary = other
	s, err := r.Boot(t.Context(), nil, id, CreateOptions{Bundle: dir, PIDFile: filepath.Join(dir, "pid")})
	if err != nil {
		t.Fatalf("%+v", err)
	}
	<-s.Gone()
	sentry := sentryOf(t, dir)
	if err := s.Start(t.Context()); err != nil {
		t.Fatalf("%+v", err)
	}
	if status := ended(t, sentry); status.ExitStatus() != 7 {
		t.Errorf("the program ended with %d", status.ExitStatus())
	}
}
