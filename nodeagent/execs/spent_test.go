package execs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/errdefs"

	"brig/nodeagent/execs"
)

func run(t *testing.T, m *execs.Manager, w *world, argv string) string {
	t.Helper()
	r, err := m.Run(t.Context(), w.sandbox(), execs.Spec{Argv: strings.Split(argv, " ")}, nil, execs.Room{Max: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%s|%s|%d", r.Stdout, r.Stderr, r.Exit.Code)
}

// spent lists what lies in the folders that wait for an exec.
func (w *world) spent(t *testing.T) (files []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(w.dir, "execs.spent", "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range files {
		files[i] = filepath.Base(files[i])
	}
	return files
}

// A folder is used again, and nothing that one program wrote is another's.
func TestFoldersAreUsedAgain(t *testing.T) {
	w := newWorld(t)
	m, stop := w.brigd(t)
	for range 3 {
		for argv, want := range map[string]string{"echo long-output": "long-output\n||0", "exit 3": "||3", "warn x": "|x\n|0"} {
			if got := run(t, m, w, argv); got != want {
				t.Errorf("%s: %q; want %q", argv, got, want)
			}
			eventually(t, "it is gone", func() bool { return len(w.left()) == 0 && w.Execs() == 0 })
			if got := w.spent(t); !slices.Equal(got, []string{"note"}) {
				t.Errorf("after %s: %q; want one folder with a note", argv, got)
			}
		}
	}
	// What is to be found again, or leaves more than a note, leaves no folder.
	exitOf(t, start(t, m, w, execs.Spec{ID: "kept", Keep: true, Argv: []string{"exit", "0"}}))
	if _, err := m.Run(t.Context(), w.sandbox(), execs.Spec{Argv: []string{"cat"}}, []byte("x"), execs.Room{Max: 9}); err != nil {
		t.Error(err)
	}
	eventually(t, "one is left", func() bool { return slices.Equal(w.left(), []string{"kept"}) && w.Execs() == 0 })
	stop()
	m, _ = w.brigd(t)
	m.Adopt(w.sandbox())
	if got := w.spent(t); len(got) > 0 {
		t.Errorf("of an earlier brigd there is %q", got)
	}
	m.Forget(w.id)
}

// Many at once have one each, and nobody is left when their sandbox goes.
func TestFoldersOfManyAtOnce(t *testing.T) {
	w := newWorld(t)
	m, _ := w.brigd(t)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for j := range 30 {
				word := fmt.Sprint(i, "-", j)
				if got := run(t, m, w, "echo "+word); got != word+"\n||0" {
					t.Errorf("%q; want %s", got, word)
				}
			}
		})
	}
	all.Wait()
	eventually(t, "they are gone", func() bool { return len(w.left()) == 0 && w.Execs() == 0 })
	x := start(t, m, w, execs.Spec{Argv: []string{"exit", "0"}})
	exitOf(t, x)
	folders := len(w.spent(t))
	m.Forget(w.id)
	x.Leave()
	eventually(t, "it is gone", func() bool { return len(w.left()) == 0 })
	if now := len(w.spent(t)); now > folders {
		t.Errorf("%d folders where the sandbox has gone; there were %d", now, folders)
	}
}

// A brigd that died with a folder claimed and the note of another program in it finds a
// program that never ran.
func TestANoteOfAnotherProgram(t *testing.T) {
	w := newWorld(t)
	m, stop := w.brigd(t)
	run(t, m, w, "echo x")
	eventually(t, "it is gone", func() bool { return len(w.spent(t)) == 1 })
	stop()
	dir := filepath.Join(w.dir, "execs.spent")
	if err := os.Rename(filepath.Join(dir, "0"), filepath.Join(w.dir, "execs", "claimed")); err != nil {
		t.Fatal(err)
	}
	m, _ = w.brigd(t)
	m.Adopt(w.sandbox())
	if x, err := m.Find(t.Context(), w.sandbox(), "claimed"); !errdefs.IsNotFound(err) {
		t.Errorf("found %v, %v", x, err)
	}
	eventually(t, "it is gone", func() bool { return len(w.left()) == 0 })
}

// The shim of an earlier brig does not know the call that runs a program.
func TestAnEarlierShim(t *testing.T) {
	w := newWorld(t)
	m, _ := w.brigd(t)
	w.Fail("runexec", errdefs.ErrNotImplemented)
	if got := run(t, m, w, "echo x"); got != "x\n||0" {
		t.Errorf("%q", got)
	}
	eventually(t, "nothing is left", func() bool { return len(w.left()) == 0 && w.Execs() == 0 })
	for _, step := range []string{"addexec", "startexec"} {
		w.Fail(step, errdefs.ErrUnavailable)
		if _, err := m.Start(t.Context(), w.sandbox(), execs.Spec{Argv: []string{"sleep"}}); !errdefs.IsUnavailable(err) {
			t.Errorf("%s: %v", step, err)
		}
		w.Fail(step, nil)
		if left := w.left(); len(left) != 0 || w.Execs() != 0 {
			t.Errorf("%s left %v and %d programs", step, left, w.Execs())
		}
	}
}
