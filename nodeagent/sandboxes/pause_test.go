package sandboxes_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"brig/nodeagent/events"
	"brig/nodeagent/metrics"
	"brig/nodeagent/record"
)

// stands tells what the store and the runtime say.
func stands(t *testing.T, n *node, b *brigd, rec record.Record) [2]bool {
	t.Helper()
	r, err := b.store.Get(rec.ID)
	if err != nil {
		t.Fatal(err)
	}
	is, err := n.Paused(t.Context(), string(rec.ID))
	if err != nil {
		t.Fatal(err)
	}
	return [2]bool{r.Paused, is}
}

func TestPause(t *testing.T) {
	n := newNode(t)
	b := n.start(t)
	rec := create(t, b, record.Request{})
	listener, err := b.parts.Events.Listen(events.Filter{UID: 1000})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	for _, deed := range []struct {
		name string
		do   func() error
		want bool
	}{
		{"pause", func() error { return b.Pause(t.Context(), rec) }, true},
		{"pause again", func() error { return b.Pause(t.Context(), rec) }, true},
		{"resume", func() error { return b.Resume(t.Context(), rec) }, false},
		{"resume again", func() error { return b.Resume(t.Context(), rec) }, false},
		{"pause for good", func() error { return b.Pause(t.Context(), rec) }, true},
	} {
		if err := deed.do(); err != nil {
			t.Fatalf("%s: %v", deed.name, err)
		}
		if got := stands(t, n, b, rec); got != [2]bool{deed.want, deed.want} {
			t.Errorf("%s: on record and in fact %v", deed.name, got)
		}
		want := metrics.States{Running: 1}
		if deed.want {
			want = metrics.States{Paused: 1}
		}
		if diff := cmp.Diff(want, b.States()); diff != "" {
			t.Errorf("%s: states (-want +got):\n%s", deed.name, diff)
		}
	}
	for _, want := range []bool{true, false, true} {
		e, err := listener.Next(t.Context())
		if err != nil || e.Paused != want || e.Resumed == want {
			t.Errorf("event %+v, %v", e, err)
		}
	}
	if _, err := b.Terminate(t.Context(), rec, time.Minute); err != nil {
		t.Fatal(err)
	}
	log := n.Log()
	if i := slices.Index(log, "resume "+string(rec.ID)); i < 0 || !slices.Contains(log[i:], "kill(15) "+string(rec.ID)) {
		t.Errorf("a paused one was not woken for its end: %v", log)
	}
	if r, err := b.store.Get(rec.ID); err != nil || r.Paused {
		t.Errorf("an ended one is paused: %v, %v", r.Paused, err)
	}
	if err := b.Pause(t.Context(), rec); !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "has ended") {
		t.Errorf("pause after the end: %v", err)
	}
}

func TestPauseFails(t *testing.T) {
	n := newNode(t)
	b := n.start(t)
	rec := create(t, b, record.Request{})
	n.Fail("pause", errors.New("the shim is gone"))
	if err := b.Pause(t.Context(), rec); err == nil || !strings.Contains(err.Error(), "the shim is gone") {
		t.Errorf("error %v", err)
	}
	if got := stands(t, n, b, rec); got != [2]bool{} {
		t.Errorf("on record and in fact %v", got)
	}
}

// TestPauseAfterACrash: brigd died between the record and the deed, or while it saved the
// sandbox. The record is what counts.
func TestPauseAfterACrash(t *testing.T) {
	for _, tc := range []struct {
		name           string
		record, before bool
	}{
		{"before a pause", true, false},
		{"before a resume", false, true},
		{"as it should be", true, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := newNode(t)
			b := n.start(t)
			rec := create(t, b, record.Request{})
			if _, err := b.store.Update(rec.ID, func(r *record.Record) error { r.Paused = tc.record; return nil }); err != nil {
				t.Fatal(err)
			}
			if tc.before {
				if err := n.Pause(t.Context(), string(rec.ID)); err != nil {
					t.Fatal(err)
				}
			}
			b.stop()
			b = n.start(t)
			want := [2]bool{tc.record, tc.record}
			for end := time.Now().Add(5 * time.Second); stands(t, n, b, rec) != want && time.Now().Before(end); time.Sleep(time.Millisecond) {
			}
			if diff := cmp.Diff(want, stands(t, n, b, rec)); diff != "" {
				t.Errorf("on record and in fact (-want +got):\n%s", diff)
			}
		})
	}
}
