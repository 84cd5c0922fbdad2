package activity

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"brig/nodeagent/clock"
)

func now(t *testing.T) time.Duration {
	t.Helper()
	d, err := clock.Now()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestIdle(t *testing.T) {
	before := now(t)
	tracker := New()
	made, idle := tracker.Idle()
	if !idle || made < before || made > now(t) {
		t.Errorf("new: since %v, %v; want since its making at %v", made, idle, before)
	}
	first, second := tracker.Begin(), tracker.Begin()
	first()
	first()
	if _, idle := tracker.Idle(); idle {
		t.Error("idle while one of two goes on: an end that was called twice counted twice")
	}
	before = now(t)
	second()
	ended, idle := tracker.Idle()
	if !idle || ended < before {
		t.Errorf("since %v, %v; want since the last end at %v", ended, idle, before)
	}
	before = now(t)
	tracker.Touch()
	if touched, idle := tracker.Idle(); !idle || touched < before {
		t.Errorf("since %v, %v; want since the touch at %v", touched, idle, before)
	}
}

func TestTouchWhileBusyIsNotIdle(t *testing.T) {
	tracker := New()
	defer tracker.Begin()()
	tracker.Touch()
	if _, idle := tracker.Idle(); idle {
		t.Error("idle while something goes on")
	}
}

// A brigd that restarts goes on from what the one before it wrote.
func TestKeep(t *testing.T) {
	path := filepath.Join(t.TempDir(), "idle")
	first := New()
	if err := first.Keep(path); err != nil {
		t.Fatal(err)
	}
	since, _ := first.Idle()

	second := New()
	if err := second.Keep(path); err != nil {
		t.Fatal(err)
	}
	if got, idle := second.Idle(); got != since || !idle {
		t.Errorf("after a restart: since %v, %v; want %v", got, idle, since)
	}

	second.Begin() // its brigd is killed before it ends
	before := now(t)
	third := New()
	if err := third.Keep(path); err != nil {
		t.Fatal(err)
	}
	if got, idle := third.Idle(); got < before || !idle {
		t.Errorf("busy when its brigd died: since %v, %v; want since the restart at %v", got, idle, before)
	}
	for _, tracker := range []*Tracker{first, second, third} {
		if err := tracker.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestKeepOfABusySandbox(t *testing.T) {
	path := filepath.Join(t.TempDir(), "idle")
	tracker := New()
	end := tracker.Begin()
	if err := tracker.Keep(path); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(path); err != nil || strings.TrimSpace(string(text)) != busyWord || len(text) != markSize {
		t.Errorf("mark %q, %v", text, err)
	}
	end()
	since, _ := tracker.Idle()
	if err := tracker.Close(); err != nil {
		t.Fatal(err)
	}
	tracker.Touch() // writes no more
	again := New()
	if err := again.Keep(path); err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if got, _ := again.Idle(); got != since {
		t.Errorf("since %v, want %v", got, since)
	}
}

func TestKeepRefusesAnotherFile(t *testing.T) {
	for _, text := range []string{"short", strings.Repeat("x", markSize), "-5" + strings.Repeat(" ", markSize-2)} {
		path := filepath.Join(t.TempDir(), "idle")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		tracker := New()
		since, _ := tracker.Idle()
		if err := tracker.Keep(path); err == nil {
			t.Errorf("%q is taken for a mark", text)
		}
		tracker.Touch()
		if got, _ := os.ReadFile(path); string(got) != text {
			t.Errorf("%q was overwritten with %q", text, got)
		}
		if got, idle := tracker.Idle(); got < since || !idle {
			t.Errorf("since %v, %v", got, idle)
		}
	}
}

// A time that is yet to come is another boot's.
func TestKeepOfAnotherBoot(t *testing.T) {
	path := filepath.Join(t.TempDir(), "idle")
	if err := os.WriteFile(path, []byte("9000000000000000000    \n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tracker := New()
	since, _ := tracker.Idle()
	if err := tracker.Keep(path); err != nil {
		t.Fatal(err)
	}
	defer tracker.Close()
	if got, _ := tracker.Idle(); got != since {
		t.Errorf("since %v, want %v", got, since)
	}
}
