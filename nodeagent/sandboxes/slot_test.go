package sandboxes_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"brig/internal/config"
	"brig/internal/netpolicy"
	"brig/internal/sandbox"
	"brig/nodeagent/pool"
	"brig/nodeagent/record"
	"brig/nodeagent/sandboxes"
	"brig/nodeagent/store"
)

// startPooled is a brigd on whose node one sandbox waits.
func (n *node) startPooled(t *testing.T) (*brigd, *pool.Pool) {
	t.Helper()
	return n.startPool(t, config.Pool{Size: 1, Max: 1})
}

func (n *node) startPool(t *testing.T, c config.Pool) (*brigd, *pool.Pool) {
	t.Helper()
	n.cfg.Pool = c
	var p *pool.Pool
	n.pool = func(s *store.Store) *pool.Pool {
		p = pool.New(pool.Parts{
			Config: n.cfg.Pool, Runtime: n.Node, Network: n.Node, Store: s, Default: sandboxes.Shape(record.Resources{}),
			Maker: func() (string, error) { return "m", nil }, Boot: n.boot, Now: func() time.Duration { return 0 }, Log: slog.New(slog.DiscardHandler),
		})
		return p
	}
	b := n.start(t)
	p.Restorer = b.Restorer()
	p.Run(t.Context())
	t.Cleanup(p.Close)
	return b, p
}

func waits(t *testing.T, p *pool.Pool) {
	t.Helper()
	waitFor(t, p, 1)
}

// waitFor waits until so many wait.
func waitFor(t *testing.T, p *pool.Pool, want int) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); p.Figures() != (pool.Figures{Waiting: want}); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%+v", p.Figures())
		}
	}
}

// since is what was done to a sandbox after the first lines of the log.
func (n *node) since(lines int, id sandbox.ID) (done []string) {
	for _, line := range n.Log()[lines:] {
		if step, of, _ := strings.Cut(line, " "); of == string(id) {
			done = append(done, step)
		}
	}
	return done
}

func TestCreateTakesASlot(t *testing.T) {
	n := newNode(t)
	b, p := n.startPooled(t)
	waits(t, p)
	if all, err := b.List(0, nil, true); err != nil || len(all) > 0 {
		t.Errorf("root sees %v, %v", all, err)
	}
	before := len(n.Log())
	rec := create(t, b, record.Request{Name: "web", RequestID: "r"})
	if !rec.Address.IsValid() || rec.Owner != 1000 || rec.State != sandbox.Running || len(rec.Policies) != 1 {
		t.Errorf("record %+v", rec)
	}
	if diff := cmp.Diff([]string{"claim", "start"}, n.since(before, rec.ID)); diff != "" {
		t.Errorf("deeds (-want +got):\n%s", diff)
	}
	waits(t, p)
	if again := create(t, b, record.Request{Name: "web", RequestID: "r"}); again.ID != rec.ID {
		t.Errorf("asked again, it made %s; want %s", again.ID, rec.ID)
	}
	if _, err := b.Create(t.Context(), 1000, record.Request{Image: image, Name: "web"}); !errdefs.IsAlreadyExists(err) {
		t.Errorf("a name that is taken: %v", err)
	}
	waits(t, p) // what was refused has used none
	n.Exit(string(rec.ID), 3)
	if got := wait(t, b, rec); got != "exited" {
		t.Errorf("reason %s", got)
	}
	if err := b.Remove(t.Context(), rec, true); err != nil {
		t.Fatal(err)
	}
	if err := p.Drain(context.Background()); err != nil {
		t.Error(err)
	}
	mustBeEmpty(t, n)
}

// A slot that cannot be used costs its caller time and nothing else.
func TestSpentSlot(t *testing.T) {
	for _, step := range []string{"claim", "start"} {
		t.Run(step, func(t *testing.T) {
			n := newNode(t)
			b, p := n.startPooled(t)
			waits(t, p)
			before := len(n.Log())
			n.failOnce(step, errors.New("it is broken"))
			rec := create(t, b, record.Request{Name: "web", RequestID: "r"})
			if got := n.since(before, rec.ID); !slices.Equal(slices.Sorted(slices.Values(got)), []string{"attach", "create", "start"}) {
				t.Errorf("what was made in its place: %v", got)
			}
			if err := b.Remove(t.Context(), rec, true); err != nil {
				t.Fatal(err)
			}
			if err := p.Drain(context.Background()); err != nil {
				t.Error(err)
			}
			mustBeEmpty(t, n)
		})
	}
	t.Run("the request is wrong", func(t *testing.T) {
		n := newNode(t)
		b, p := n.startPooled(t)
		waits(t, p)
		n.Fail("claim", errdefs.ErrInvalidArgument.WithMessage("no such program"))
		if _, err := b.Create(t.Context(), 1000, record.Request{Image: image}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%v", err)
		}
		if slices.ContainsFunc(n.Log(), func(line string) bool { return strings.HasPrefix(line, "create ") }) {
			t.Error("it was tried anew")
		}
	})
}

func TestColdBesideSlots(t *testing.T) {
	n := newNode(t)
	b, p := n.startPooled(t)
	for name, r := range map[string]record.Request{
		"no network":    {Network: netpolicy.Spec{BlockNetwork: true}},
		"another shape": {Resources: record.Resources{MemoryMiB: 64}},
	} {
		waits(t, p)
		before := len(n.Log())
		rec := create(t, b, r)
		if got := n.since(before, rec.ID); !slices.Contains(got, "create") {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// Nobody's, and not an orphan: what waits stays when the node is brought in line, whether
// brigd knows a pool or not; without one nobody takes it over.
func TestSlotsAreNoOrphans(t *testing.T) {
	n := newNode(t)
	b, p := n.startPooled(t)
	waits(t, p)
	left := n.Left()
	p.Close()
	b.stop()
	n.pool = nil
	b = n.start(t)
	if diff := cmp.Diff(left, n.Left()); diff != "" {
		t.Errorf("what waited (-before +after):\n%s", diff)
	}
	b.stop()
}
