package execs_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"brig/internal/config"
	"brig/internal/sandbox"
	"brig/nodeagent/engine"
	"brig/nodeagent/execs"
	"brig/nodeagent/output"
	"brig/nodeagent/quota"
	"brig/nodeagent/record"
	"brig/nodeagent/sandboxes/fake"
)

// world is what outlives a brigd: a node with one sandbox, and its folder.
type world struct {
	*fake.Node
	dir     string
	spare   string
	id      sandbox.ID
	ended   chan struct{}
	quotas  config.Quotas
	figures execs.Figures

	mu     sync.Mutex // guards what follows
	ending sandbox.Reason
	exit   *record.Exit
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{Node: fake.New("x"), dir: t.TempDir(), id: sandbox.NewID(), ended: make(chan struct{})}
	w.spare = filepath.Join(w.dir, "spare")
	s := engine.Sandbox{ID: string(w.id)}
	if err := errors.Join(w.Create(t.Context(), s), w.Start(t.Context(), s)); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) sandbox() execs.Sandbox {
	return execs.Sandbox{ID: w.id, Owner: 1000, Ended: w.ended, Fate: func() (sandbox.Reason, *record.Exit) {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.ending, w.exit
	}}
}

// end the sandbox for a reason, which brigd knows before if it brings it about.
func (w *world) end(reason sandbox.Reason, known bool) {
	w.mu.Lock()
	if known {
		w.ending = reason
	}
	w.mu.Unlock()
	w.Exit(string(w.id), 137)
	w.mu.Lock()
	exit := record.ReasonExit(reason, time.Now())
	w.exit = &exit
	w.mu.Unlock()
	close(w.ended)
}

// brigd is a manager on it, until stop, which is as good as a kill.
func (w *world) brigd(t *testing.T) (m *execs.Manager, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	m = execs.New(ctx, execs.Parts{
		Runtime: w, Folder: func(string) string { return w.dir }, Spare: w.spare, JournalBytes: 1 << 20,
		Quota: quota.New(w.quotas), Figures: w.figures, Boot: "boot", Log: slog.New(slog.DiscardHandler),
	})
	stop = func() { cancel(); m.Close() }
	t.Cleanup(stop)
	return m, stop
}

func start(t *testing.T, m *execs.Manager, w *world, s execs.Spec) *execs.Exec {
	t.Helper()
	x, err := m.Start(t.Context(), w.sandbox(), s)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func find(t *testing.T, m *execs.Manager, w *world, id string) *execs.Exec {
	t.Helper()
	x, err := m.Find(t.Context(), w.sandbox(), id)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func exitOf(t *testing.T, x *execs.Exec) string {
	t.Helper()
	exit, err := x.Wait(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d %s", exit.Code, exit.Reason)
}

func text(t *testing.T, x *execs.Exec, from execs.Offsets) string {
	t.Helper()
	var mu sync.Mutex
	got := map[string]string{}
	err := x.Read(t.Context(), from, true, func(p output.Piece) error {
		mu.Lock()
		defer mu.Unlock()
		got[p.Stream] += string(p.Data)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got["stdout"] + "|" + got["stderr"]
}

// left lists the folders of execs.
func (w *world) left() (names []string) {
	entries, _ := os.ReadDir(filepath.Join(w.dir, "execs"))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !holds(); {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		select {
		case <-t.Context().Done():
		case <-time.After(time.Millisecond):
		}
	}
}

func TestRun(t *testing.T) {
	w := newWorld(t)
	m, _ := w.brigd(t)
	for _, c := range []struct {
		argv  string
		stdin string
		max   int
		want  string
	}{
		{"echo one", "", 100, "one\n||false|0 exited"},
		{"echo one", "", 2, "on||true|0 exited"},
		{"warn two", "", 100, "|two\n|false|0 exited"},
		{"exit 3", "", 100, "||false|3 exited"},
		{"exit 143", "", 100, "||false|143 signal"},
		{"cat", "through", 100, "through||false|0 exited"},
	} {
		r, err := m.Run(t.Context(), w.sandbox(), execs.Spec{Argv: strings.Split(c.argv, " ")}, []byte(c.stdin), execs.Room{Max: c.max})
		if err != nil {
			t.Errorf("%s: %v", c.argv, err)
			continue
		}
		got := fmt.Sprintf("%s|%s|%v|%d %s", r.Stdout, r.Stderr, r.Truncated, r.Exit.Code, r.Exit.Reason)
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.argv, diff)
		}
	}
	eventually(t, "nothing is left", func() bool { return len(w.left()) == 0 && w.Execs() == 0 })
}

// Of much output Run returns the first bytes, however little a journal keeps.
func TestRunKeepsTheFirst(t *testing.T) {
	w := newWorld(t)
	m, _ := w.brigd(t)
	r, err := m.Run(t.Context(), w.sandbox(), execs.Spec{Argv: []string{"count", "8000000"}}, nil, execs.Room{Max: 10})
	if err != nil || string(r.Stdout) != "aaaaaaaaaa" || !r.Truncated || r.Exit.Code != 0 {
		t.Errorf("%q, %v, %v, %v", r.Stdout, r.Truncated, r.Exit, err)
	}
}

// A Run whose output nobody has room for ends, and takes its program along.
func TestRunWithoutRoom(t *testing.T) {
	w := newWorld(t)
	m, _ := w.brigd(t)
	full := errdefs.ErrResourceExhausted.WithMessage("there is no room")
	left := 1 << 20
	take := func(n int) error {
		if left -= n; left < 0 {
			return full
		}
		return nil
	}
	_, err := m.Run(t.Context(), w.sandbox(), execs.Spec{Argv: []string{"count", "8000000"}}, nil, execs.Room{Max: 8000000, Take: take})
	if !errors.Is(err, full) {
		t.Errorf("%v; want %v", err, full)
	}
	eventually(t, "nothing is left", func() bool { return len(w.left()) == 0 && w.Execs() == 0 })
}

func TestStartIsIdempotent(t *testing.T) {
	w := newWorld(t)
	m, stop := w.brigd(t)
	spec := execs.Spec{ID: "once", Keep: true, Argv: []string{"echo", "one"}}
	for range 3 {
		x := start(t, m, w, spec)
		if got := exitOf(t, x) + " " + text(t, x, execs.Offsets{}); got != "0 exited one\n|" {
			t.Errorf("got %q", got)
		}
		x.Leave()
	}
	other := spec
	other.Argv = []string{"echo", "two"}
	if _, err := m.Start(t.Context(), w.sandbox(), other); !errdefs.IsAlreadyExists(err) {
		t.Errorf("another program with that id: %v", err)
	}
	stop()
	m, _ = w.brigd(t) // a brigd that finds it on disk
	if got := exitOf(t, start(t, m, w, spec)); got != "0 exited" {
		t.Errorf("after a restart: %s", got)
	}
	if _, err := m.Start(t.Context(), w.sandbox(), other); !errdefs.IsAlreadyExists(err) {
		t.Errorf("another program, after a restart: %v", err)
	}
	if started := strings.Count(strings.Join(w.Log(), "\n"), "startexec"); started != 1 {
		t.Errorf("it ran %d times", started)
	}
}

// Many that say the same at once get one program.
func TestStartAtOnce(t *testing.T) {
	w := newWorld(t)
	m, _ := w.brigd(t)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			x, err := m.Start(t.Context(), w.sandbox(), execs.Spec{ID: "once", Keep: true, Argv: []string{"exit", "4"}})
			if err != nil {
				t.Error(err)
				return
			}
			if got := exitOf(t, x); got != "4 exited" {
				t.Error(got)
			}
		})
	}
	wg.Wait()
	if started := strings.Count(strings.Join(w.Log(), "\n"), "startexec"); started != 1 {
		t.Errorf("it ran %d times", started)
	}
}

func TestFailedStartLeavesNothing(t *testing.T) {
	for _, step := range []string{"addexec", "startexec"} {
		w := newWorld(t)
		m, _ := w.brigd(t)
		fault := errors.New("no")
		w.Fail(step, fault)
		spec := execs.Spec{ID: "a", Keep: true, Stdin: true, Argv: []string{"cat"}}
		if _, err := m.Start(t.Context(), w.sandbox(), spec); !errors.Is(err, fault) {
			t.Errorf("%s: %v", step, err)
		}
		if left := w.left(); len(left) != 0 || w.Execs() != 0 {
			t.Errorf("%s left %v and %d programs", step, left, w.Execs())
		}
		w.Fail(step, nil)
		start(t, m, w, spec) // and it can be tried again
	}
}

// A program runs on while there is no brigd, and is found again, with its stdin and output.
func TestAdopt(t *testing.T) {
	w := newWorld(t)
	m, stop := w.brigd(t)
	x := start(t, m, w, execs.Spec{ID: "a", Keep: true, Stdin: true, Argv: []string{"cat"}})
	if n, err := x.Write(t.Context(), 0, []byte("one "), false); n != 4 || err != nil {
		t.Fatal(n, err)
	}
	stop()
	m, _ = w.brigd(t)
	m.Adopt(w.sandbox())
	x = find(t, m, w, "a")
	if n, err := x.Acknowledged(); n != 4 || err != nil {
		t.Errorf("acknowledged %d, %v; want 4", n, err)
	}
	if _, err := x.Write(t.Context(), 5, []byte("x"), false); !errdefs.IsOutOfRange(err) || !strings.Contains(err.Error(), "from 4") {
		t.Errorf("a gap: %v", err)
	}
	if n, err := x.Write(t.Context(), 0, []byte("one two"), true); n != 7 || err != nil { // part of it again
		t.Fatal(n, err)
	}
	if got := text(t, x, execs.Offsets{Stdout: 1}) + exitOf(t, x); got != "ne two|0 exited" {
		t.Errorf("got %q", got)
	}
}

// One that ended while there was no brigd has its exit all the same, and one that was not
// started is not there.
func TestAdoptEnded(t *testing.T) {
	w := newWorld(t)
	m, stop := w.brigd(t)
	x := start(t, m, w, execs.Spec{ID: "a", Keep: true, Argv: []string{"sleep"}})
	stop()
	if err := x.Signal(t.Context(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(w.dir, "execs", "b"), 0o700); err != nil { // claimed, no more
		t.Fatal(err)
	}
	m, _ = w.brigd(t)
	m.Adopt(w.sandbox())
	if got := exitOf(t, find(t, m, w, "a")); got != "143 signal" {
		t.Errorf("got %s", got)
	}
	if _, err := m.Find(t.Context(), w.sandbox(), "b"); !errdefs.IsNotFound(err) {
		t.Errorf("one that never ran: %v", err)
	}
	eventually(t, "the runtime has forgotten it", func() bool { return w.Execs() == 0 })
	if diff := cmp.Diff([]string{"a"}, w.left()); diff != "" {
		t.Error(diff)
	}
}

func TestTimeout(t *testing.T) {
	w := newWorld(t)
	m, _ := w.brigd(t)
	x := start(t, m, w, execs.Spec{ID: "a", Keep: true, Argv: []string{"sleep"}, Timeout: 50 * time.Millisecond})
	if got := exitOf(t, x); got != "124 exec_timeout" {
		t.Error(got)
	}
}

// A deadline that passes while there is no brigd is enforced by the next one.
func TestTimeoutOverARestart(t *testing.T) {
	w := newWorld(t)
	m, stop := w.brigd(t)
	x := start(t, m, w, execs.Spec{ID: "a", Keep: true, Argv: []string{"sleep"}, Timeout: 20 * time.Millisecond})
	stop()
	if x.HasEnded() {
		t.Skip("requirement: a machine that stops a manager within 20 ms")
	}
	m, _ = w.brigd(t)
	m.Adopt(w.sandbox())
	if got := exitOf(t, find(t, m, w, "a")); got != "124 exec_timeout" {
		t.Error(got)
	}
}

// What a sandbox takes along has its reason.
func TestSandboxEnds(t *testing.T) {
	for _, c := range []struct {
		reason sandbox.Reason
		known  bool
		want   string
	}{
		{sandbox.ReasonTerminated, true, "137 terminated"},
		{sandbox.ReasonTimeout, true, "124 timeout"},
		{sandbox.ReasonIdleTimeout, true, "124 idle_timeout"},
		{sandbox.ReasonOOM, false, "137 oom"},
		{sandbox.ReasonExited, false, "137 terminated"},
		{sandbox.ReasonRuntimeCrash, false, "137 runtime_crash"},
	} {
		w := newWorld(t)
		m, stop := w.brigd(t)
		x := start(t, m, w, execs.Spec{ID: "a", Keep: true, Argv: []string{"sleep"}})
		w.end(c.reason, c.known)
		if got := exitOf(t, x); got != c.want {
			t.Errorf("%s: %s; want %s", c.reason, got, c.want)
		}
		stop()
		m, _ = w.brigd(t) // it is kept
		if got := exitOf(t, find(t, m, w, "a")); got != c.want {
			t.Errorf("%s, found again: %s; want %s", c.reason, got, c.want)
		}
	}
}

// What its own SIGKILL ended, while the sandbox runs on, ended by a signal.
func TestKilledAlone(t *testing.T) {
	w := newWorld(t)
	m, _ := w.brigd(t)
	if got := exitOf(t, start(t, m, w, execs.Spec{Argv: []string{"exit", "137"}})); got != "137 signal" {
		t.Error(got)
	}
	x := start(t, m, w, execs.Spec{Argv: []string{"sleep"}})
	if err := x.Signal(t.Context(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if got := exitOf(t, x); got != "137 signal" {
		t.Error(got)
	}
	if err := x.Signal(t.Context(), syscall.SIGTERM); err != nil {
		t.Errorf("a signal to what has ended: %v", err)
	}
}

// One that is not kept ends with the last who holds it.
func TestLeave(t *testing.T) {
	w := newWorld(t)
	m, _ := w.brigd(t)
	x := start(t, m, w, execs.Spec{Argv: []string{"sleep"}})
	again := find(t, m, w, x.ID())
	x.Leave()
	if x.HasEnded() || w.Execs() != 1 {
		t.Error("it ended though it is held")
	}
	again.Leave()
	eventually(t, "it is gone", func() bool { return w.Execs() == 0 && len(w.left()) == 0 })
	if _, err := m.Find(t.Context(), w.sandbox(), x.ID()); !errdefs.IsNotFound(err) {
		t.Errorf("found: %v", err)
	}
}

func TestQuota(t *testing.T) {
	w := newWorld(t)
	w.quotas.Execs = 1
	m, _ := w.brigd(t)
	x := start(t, m, w, execs.Spec{ID: "a", Keep: true, Argv: []string{"sleep"}})
	if _, err := m.Start(t.Context(), w.sandbox(), execs.Spec{Argv: []string{"exit", "0"}}); !errdefs.IsResourceExhausted(err) {
		t.Errorf("one too many: %v", err)
	}
	if diff := cmp.Diff([]string{"a"}, w.left()); diff != "" {
		t.Error(diff)
	}
	if err := x.Signal(t.Context(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	exitOf(t, x)
	exitOf(t, start(t, m, w, execs.Spec{Argv: []string{"exit", "0"}}))
}

// No more are kept than the bound; others run on.
func TestKeptAreBounded(t *testing.T) {
	w := newWorld(t)
	for i := range execs.MaxKept {
		if err := os.MkdirAll(filepath.Join(w.dir, "execs", fmt.Sprint(i)), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	m, _ := w.brigd(t)
	if _, err := m.Start(t.Context(), w.sandbox(), execs.Spec{ID: "a", Keep: true, Argv: []string{"exit", "0"}}); !errdefs.IsResourceExhausted(err) {
		t.Errorf("one too many: %v", err)
	}
	exitOf(t, start(t, m, w, execs.Spec{Argv: []string{"exit", "0"}}))
}

func TestRefused(t *testing.T) {
	w := newWorld(t)
	m, _ := w.brigd(t)
	run := []string{"exit", "0"}
	for _, s := range []execs.Spec{
		{},
		{Argv: []string{""}},
		{Argv: []string{"a\x00"}},
		{Argv: run, Workdir: "relative"},
		{Argv: run, Timeout: -1},
		{Argv: run, Env: map[string]string{"": "x"}},
		{Argv: run, Size: record.Size{Columns: 80, Rows: 24}},
		{Argv: run, ID: ".."},
		{Argv: run, ID: "a/b"},
		{Argv: run, ID: "-a"},
		{Argv: run, ID: strings.Repeat("a", 65)},
		{Argv: run, ID: "a\n"},
	} {
		if _, err := m.Start(t.Context(), w.sandbox(), s); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%+v: %v", s, err)
		}
	}
	x := start(t, m, w, execs.Spec{Argv: []string{"sleep"}})
	if _, err := x.Write(t.Context(), 0, nil, true); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("stdin of one without: %v", err)
	}
	if err := x.Resize(t.Context(), record.Size{Columns: 1, Rows: 1}); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("resize one without a terminal: %v", err)
	}
	if err := x.Signal(t.Context(), 65); !errdefs.IsInvalidArgument(err) {
		t.Errorf("signal 65: %v", err)
	}
	if left := w.left(); len(left) != 1 {
		t.Errorf("left %v", left)
	}
}

// In a sandbox that has ended nothing starts, but what ran there is found.
func TestEndedSandbox(t *testing.T) {
	w := newWorld(t)
	m, _ := w.brigd(t)
	spec := execs.Spec{ID: "a", Keep: true, Argv: []string{"echo", "one"}}
	exitOf(t, start(t, m, w, spec))
	w.end(sandbox.ReasonExited, false)
	sb := w.sandbox()
	sb.Refusal = errdefs.ErrFailedPrecondition.WithMessage("it has ended")
	x, err := m.Start(t.Context(), sb, spec)
	if err != nil {
		t.Fatal(err)
	}
	if got := text(t, x, execs.Offsets{}); got != "one\n|" {
		t.Errorf("got %q", got)
	}
	spec.ID = "b"
	if _, err := m.Start(t.Context(), sb, spec); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("a new one: %v", err)
	}
}
