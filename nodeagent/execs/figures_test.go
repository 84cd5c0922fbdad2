package execs_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"brig/nodeagent/execs"
)

// counts is what was told of programs.
type counts struct {
	mu                             sync.Mutex // guards what follows
	started, ended, failed, output int
	odd                            []time.Duration // that no program here takes
}

func (c *counts) ExecStarted() { c.add(&c.started, 1) }
func (c *counts) ExecFailed()  { c.add(&c.failed, 1) }

func (c *counts) ExecOutput(n int) { c.add(&c.output, n) }

func (c *counts) ExecEnded(took time.Duration) {
	c.add(&c.ended, 1)
	if took < 0 || took > time.Hour {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.odd = append(c.odd, took)
	}
}

func (c *counts) add(to *int, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	*to += n
}

func (c *counts) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return fmt.Sprintf("%d started, %d ended, %d failed, %d bytes, odd %v", c.started, c.ended, c.failed, c.output, c.odd)
}

func TestFigures(t *testing.T) {
	w := newWorld(t)
	seen := &counts{}
	w.figures = seen
	m, stop := w.brigd(t)
	if _, err := m.Run(t.Context(), w.sandbox(), execs.Spec{Argv: []string{"echo", "one"}}, nil, execs.Room{Max: 100}); err != nil {
		t.Fatal(err)
	}
	w.Fail("startexec", errors.New("no"))
	if _, err := m.Start(t.Context(), w.sandbox(), execs.Spec{Argv: []string{"sleep"}}); err == nil {
		t.Error("it started")
	}
	w.Fail("startexec", nil)
	eventually(t, "one is counted", func() bool { return seen.String() == "1 started, 1 ended, 1 failed, 4 bytes, odd []" })

	start(t, m, w, execs.Spec{ID: "kept", Keep: true, Argv: []string{"sleep"}})
	left := start(t, m, w, execs.Spec{Argv: []string{"sleep"}})
	if n := m.Running(w.id); n != 2 {
		t.Errorf("%d run, want 2", n)
	}
	left.Leave() // nobody holds it any more: it is ended
	eventually(t, "it is counted", func() bool { return m.Running(w.id) == 1 })
	stop()
	if diff := cmp.Diff("3 started, 2 ended, 1 failed, 4 bytes, odd []", seen.String()); diff != "" {
		t.Error(diff)
	}

	again := &counts{} // a brigd counts from its start on
	w.figures = again
	m, _ = w.brigd(t)
	m.Adopt(w.sandbox())
	eventually(t, "it is found again", func() bool { return m.Running(w.id) == 1 })
	if err := find(t, m, w, "kept").Signal(t.Context(), 9); err != nil {
		t.Fatal(err)
	}
	eventually(t, "its end is counted", func() bool {
		return m.Running(w.id) == 0 && again.String() == "1 started, 1 ended, 0 failed, 0 bytes, odd []"
	})
}
