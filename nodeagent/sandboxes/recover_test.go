package sandboxes_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"brig/internal/sandbox"
	"brig/nodeagent/record"
	"brig/nodeagent/sandboxes"
)

// halfMade leaves a record as of a brigd that died while it made the sandbox.
func (n *node) halfMade(t *testing.T, r record.Request) sandbox.ID {
	t.Helper()
	b := n.start(t)
	defer b.stop()
	r.Image = image
	checked, err := r.Check(record.Limits{Timeout: time.Minute, MaxTimeout: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	rec := record.Record{ID: sandbox.NewID(), Owner: 1000, Request: checked, State: sandbox.Creating, CreatedAt: time.Now()}
	if _, err := b.store.Add(rec); err != nil {
		t.Fatal(err)
	}
	return rec.ID
}

// TestHalfMadeIsAwaited: while a half-made sandbox is being undone it is shown as being
// made, and whoever asks for it again gets one that is made, never half of one.
func TestHalfMadeIsAwaited(t *testing.T) {
	n := newNode(t)
	request := record.Request{RequestID: "key", Name: "web", Image: image}
	old := n.halfMade(t, request)
	b := n.recover(t)
	defer b.stop()
	if list, err := b.List(1000, nil, false); err != nil || len(list) != 1 || list[0].State != sandbox.Creating {
		t.Errorf("before it is undone: %+v, %v", list, err)
	}
	impatient, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.Create(impatient, 1000, request); !errdefs.IsUnavailable(err) {
		t.Errorf("asked for in between: %v", err)
	}
	type answer struct {
		record.Record
		error
	}
	asked := make(chan answer, 2)
	for _, r := range []record.Request{request, {Name: "other", Image: image}} {
		go func() {
			rec, err := b.Create(t.Context(), 1000, r)
			asked <- answer{rec, err}
		}()
	}
	if first := <-asked; first.error != nil || first.Request.Name != "other" {
		t.Errorf("another one waits for it: %+v", first)
	}
	b.Reconcile(time.Hour)
	if got := <-asked; got.error != nil || got.State != sandbox.Running || got.ID == old {
		t.Errorf("asked for again: %+v", got)
	}
	if _, err := b.Find(1000, string(old)); !errdefs.IsNotFound(err) {
		t.Errorf("the half-made one: %v", err)
	}
}

// TestOrphansGo: what has the name of a sandbox and no record is removed, and what is
// being made meanwhile is not.
func TestOrphansGo(t *testing.T) {
	n := newNode(t)
	n.every = time.Millisecond
	b := n.start(t)
	lost := create(t, b, record.Request{})
	if err := b.store.Delete(lost.ID); err != nil {
		t.Fatal(err)
	}
	b.stop()
	b = n.recover(t)
	defer b.stop()
	b.Reconcile(time.Millisecond)
	for range 20 {
		create(t, b, record.Request{})
	}
	<-b.Settled()
	if left := n.Left(); len(left) != 40 {
		t.Errorf("%d parts are left, want those of 20 sandboxes:\n%v", len(left), left)
	}
}

// TestRetention: what has ended is forgotten in time; a wall clock that jumps forgets
// nothing.
func TestRetention(t *testing.T) {
	n := newNode(t)
	b := n.start(t)
	rec := create(t, b, record.Request{})
	n.Exit(string(rec.ID), 0)
	if _, err := b.Wait(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
	rec, err := b.store.Get(rec.ID)
	if err != nil {
		t.Fatal(err)
	}
	const keep = 7 * 24 * time.Hour
	if at, ok := b.RemovedAt(&rec); !ok || !at.Equal(rec.Exit.At.Add(keep)) {
		t.Errorf("removed at %v, %v", at, ok)
	}
	for name, c := range map[string]struct {
		wall, up time.Duration // since its end
		boot     string
		want     bool
	}{
		"at once":                        {0, 0, n.boot, false},
		"in time":                        {keep, keep, n.boot, true},
		"the wall's clock jumped":        {10 * keep, time.Hour, n.boot, false},
		"the wall's clock jumped back":   {-keep, keep, n.boot, true},
		"after another boot":             {keep, time.Hour, "boot-2", true},
		"after another boot, too early":  {keep - 1, time.Hour, "boot-2", false},
		"before anybody told the time":   {10 * keep, time.Minute, "boot-2", false},
		"after another boot, long since": {10 * keep, 2 * keep, "boot-2", true},
	} {
		up := c.up
		if c.boot == n.boot {
			up += rec.Ended.At
		}
		if got := sandboxes.Expired(&rec, keep, rec.Exit.At.Add(c.wall), up, c.boot); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// TestDeadlineIsTheBootClocks: a jump of the wall's clock neither ends a sandbox early
// nor keeps it.
func TestDeadlineIsTheBootClocks(t *testing.T) {
	n := newNode(t)
	b := n.start(t)
	rec := create(t, b, record.Request{Timeout: time.Second})
	other := create(t, b, record.Request{Timeout: time.Hour})
	b.stop()
	for _, jump := range []time.Duration{-time.Hour, time.Hour, 48 * time.Hour} {
		b := n.startWith(t, func(r *record.Record) { r.Deadline.Wall = r.Deadline.Wall.Add(jump) })
		if got, err := b.Find(0, string(other.ID)); err != nil || got.State != sandbox.Running {
			t.Errorf("the wall's clock is %v off: %v, %v", jump, got.State, err)
		}
		b.stop()
	}
	b = n.start(t)
	if e, err := b.Wait(t.Context(), rec); err != nil || e.Reason != sandbox.ReasonTimeout {
		t.Errorf("%+v, %v", e, err)
	}
}

// startWith changes every record before a brigd starts.
func (n *node) startWith(t *testing.T, edit func(*record.Record)) *brigd {
	t.Helper()
	b := n.open(t)
	all, err := b.store.All()
	for _, r := range all {
		_, failed := b.store.Update(r.ID, func(r *record.Record) error { edit(r); return nil })
		err = errors.Join(err, failed)
	}
	if err != nil {
		t.Fatal(err)
	}
	b.stop()
	return n.start(t)
}
