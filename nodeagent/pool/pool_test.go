package pool

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"brig/internal/config"
	"brig/internal/sandbox"
	"brig/nodeagent/engine"
	"brig/nodeagent/record"
	"brig/nodeagent/sandboxes/fake"
)

// book is a store in memory.
type book struct {
	mu    sync.Mutex
	slots map[sandbox.ID]record.Slot
}

func (b *book) PutSlot(s record.Slot) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.slots[s.ID] = s
	return nil
}

func (b *book) DeleteSlot(id sandbox.ID) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.slots, id)
	return nil
}

func (b *book) Slots() ([]record.Slot, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Collect(maps.Values(b.slots)), nil
}

// world is a node with a pool.
type world struct {
	*Pool
	t     *testing.T
	node  *fake.Node
	book  *book
	maker atomic.Value
	log   *strings.Builder
}

var began = time.Now()

func newWorld(t *testing.T, c config.Pool) *world {
	w := &world{t: t, node: fake.New(), book: &book{slots: map[sandbox.ID]record.Slot{}}, log: new(strings.Builder)}
	w.maker.Store("m")
	w.Pool = w.another(c)
	return w
}

// another pool on the same node: the next brigd's.
func (w *world) another(c config.Pool) *Pool {
	return New(Parts{
		Config: c, Runtime: w.node, Network: w.node, Store: w.book, Maker: func() (string, error) { return w.maker.Load().(string), nil },
		Boot: "b", Now: func() time.Duration { return time.Since(began) }, Log: slog.New(slog.NewTextHandler(w.log, nil)),
	})
}

// run runs the pool in a bubble, and wants it to leave nothing when it was drained.
func run(t *testing.T, c config.Pool, test func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, c)
		w.Run(t.Context())
		synctest.Wait()
		test(w)
		if err := w.Drain(context.Background()); err != nil {
			t.Error(err)
		}
		if left := w.node.Left(); len(left)+len(w.book.slots) > 0 {
			t.Errorf("drained, it leaves %v, %v", left, w.book.slots)
		}
	})
}

func (w *world) waits(want int) {
	w.t.Helper()
	time.Sleep(look)
	synctest.Wait()
	if f := w.Figures(); f != (Figures{Waiting: want}) {
		w.t.Errorf("%+v; want %d that wait", f, want)
	}
	if left := w.node.Left(); len(left) != 2*want {
		w.t.Errorf("there are %v; want what %d slots have", left, want)
	}
}

func (w *world) nth(i int) record.Slot {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.waiting[i]
}

func (w *world) take() record.Slot {
	w.t.Helper()
	s, ok := w.Take(record.Shape{})
	if !ok {
		w.t.Fatal("none waits")
	}
	_ = w.book.DeleteSlot(s.ID) // as a claim does
	return s
}

// gone takes away what a slot has become.
func (w *world) gone(s record.Slot) {
	_ = w.node.Remove(context.Background(), string(s.ID))
	_ = w.node.Detach(context.Background(), string(s.ID))
}

func TestFills(t *testing.T) {
	run(t, config.Pool{Size: 2, Max: 4}, func(w *world) {
		w.waits(2)
		a, b := w.take(), w.take()
		if a.ID == b.ID || !a.Waiting || !a.Address.IsValid() {
			t.Errorf("%+v and %+v were taken", a, b)
		}
		if _, ok := w.Take(record.Shape{MemoryMiB: 5}); ok {
			t.Error("another shape fits")
		}
		w.gone(a)
		w.gone(b)
		w.waits(3) // as many as were asked for
		time.Sleep(calm)
		w.waits(2)
	})
}

func TestShapesFollow(t *testing.T) {
	run(t, config.Pool{Size: 1, Max: 1}, func(w *world) {
		w.waits(1)
		for range 3 {
			w.Take(record.Shape{MemoryMiB: 5})
		}
		w.waits(1)
		s, ok := w.Take(record.Shape{MemoryMiB: 5})
		if !ok {
			t.Fatal("the shape that was asked for does not wait")
		}
		w.Return(s)
		w.waits(1)
	})
}

func TestOldAndForeign(t *testing.T) {
	run(t, config.Pool{Size: 1, Max: 1, MaxAge: config.Duration(time.Hour)}, func(w *world) {
		first := w.nth(0).ID
		time.Sleep(time.Hour + 2*look)
		w.waits(1)
		second := w.nth(0).ID
		if first == second {
			t.Error("one waits longer than it may")
		}
		w.maker.Store("another")
		if _, ok := w.Take(record.Shape{}); ok {
			t.Error("one of another maker was taken")
		}
		w.waits(1)
		if w.nth(0).ID == second {
			t.Error("one of another maker waits")
		}
		w.Died(string(w.nth(0).ID))
		w.waits(1)
	})
}

func TestFailing(t *testing.T) {
	run(t, config.Pool{Size: 1, Max: 1}, func(w *world) {
		w.node.Fail("boot", errors.New("no"))
		w.gone(w.take())
		time.Sleep(time.Hour)
		if n := strings.Count(strings.Join(w.node.Log(), "\n"), "boot "); n > 80 {
			t.Errorf("%d tries in an hour", n)
		}
		if n := strings.Count(w.log.String(), "cannot be filled"); n != 1 {
			t.Errorf("told %d times: %s", n, w.log)
		}
		w.waits(0)
		w.node.Fail("boot", nil)
		time.Sleep(longest)
		w.waits(1)
		if !strings.Contains(w.log.String(), "filled again") {
			t.Errorf("not told that it works again: %s", w.log)
		}
	})
}

// A create that is under way is waited for, but not for ever.
func TestYields(t *testing.T) {
	run(t, config.Pool{Size: 1, Max: 1}, func(w *world) {
		done := w.Busy()
		w.gone(w.take())
		time.Sleep(patience / 2)
		synctest.Wait()
		if f := w.Figures(); f != (Figures{}) {
			t.Errorf("beside a create: %+v", f)
		}
		time.Sleep(patience)
		w.waits(1)
		done()
	})
}

func TestTakeOver(t *testing.T) {
	run(t, config.Pool{Size: 2, Max: 2}, func(w *world) {
		w.Close()
		kept, ended := w.nth(0), w.nth(1)
		if err := w.node.Remove(w.t.Context(), string(ended.ID)); err != nil { // with its kernel
			t.Fatal(err)
		}
		half := record.Slot{ID: sandbox.NewID(), Maker: "m", Made: record.Instant{Boot: "b"}}
		if err := w.book.PutSlot(half); err != nil {
			t.Fatal(err)
		}
		w.Pool = w.another(config.Pool{Size: 1, Max: 1})
		if _, ok := w.Take(record.Shape{}); ok {
			t.Error("one was taken before it is known what there is")
		}
		w.Run(w.t.Context())
		w.waits(1)
		if len(w.book.slots) != 1 || w.nth(0) != kept {
			t.Errorf("%v wait; want %v", w.book.slots, kept)
		}
		w.Close()
		w.Pool = w.another(config.Pool{})
		w.Run(w.t.Context())
		w.waits(0) // none are to wait any more
	})
}

// restorer makes what has a checkpoint loaded, on the fake node.
type restorer struct {
	*world
	fails   error
	begun   chan struct{} // gets one at the beginning of each
	hangs   bool          // until it is given up
	removed bool          // the checkpoint
	cleared []sandbox.ID
}

func (r *restorer) Restore(ctx context.Context, s record.Slot, _ string) error {
	select {
	case r.begun <- struct{}{}:
	default:
	}
	if r.hangs {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	if r.fails != nil {
		return r.fails
	}
	return r.node.Create(ctx, engine.Sandbox{ID: string(s.ID), Waits: true})
}

func (r *restorer) Restorable(record.Held) bool { return !r.removed }

func (r *restorer) Clear(id sandbox.ID) error { r.cleared = append(r.cleared, id); return nil }

var warm = record.Shape{Held: record.Held{Owner: 1000, Checkpoint: "warm", Image: "i", Request: "r"}}

func isWarm(s record.Shape) bool { return s.Held.Checkpoint == "warm" }

func TestHolds(t *testing.T) {
	run(t, config.Pool{Size: 1, Max: 2}, func(w *world) {
		r := &restorer{world: w}
		w.Restorer = r
		w.waits(1)
		for range 2 {
			if _, ok := w.Take(warm); ok {
				t.Fatal("nobody has asked for it before")
			}
		}
		w.waits(2)
		s, ok := w.Take(warm)
		if !ok || s.Shape != warm {
			t.Fatalf("%+v was taken", s)
		}
		_ = w.book.DeleteSlot(s.ID)
		w.gone(s)
		w.waits(2)
		other := warm
		other.Held.Image = "another"
		if _, ok := w.Take(other); ok {
			t.Error("another one of that name fits")
		}
		if err := w.Forget(w.t.Context(), isWarm); err != nil {
			t.Fatal(err)
		}
		time.Sleep(calm)
		w.waits(1)
		if len(r.cleared) == 0 || slices.Contains(r.cleared, s.ID) {
			t.Errorf("cleared: %v", r.cleared)
		}
		if _, ok := w.Take(warm); ok {
			t.Error("one of a checkpoint that was removed waits")
		}
	})
}

// One that is being made when its checkpoint is removed is given up, and waited for.
func TestForgetsWhatIsMade(t *testing.T) {
	run(t, config.Pool{Size: 1, Max: 1}, func(w *world) {
		r := &restorer{world: w, begun: make(chan struct{}, 1), hangs: true}
		w.Restorer = r
		w.waits(1)
		w.Take(warm)
		w.Take(warm)
		<-r.begun
		if err := w.Forget(w.t.Context(), isWarm); err != nil {
			t.Fatal(err)
		}
		if f := w.Figures(); f.Making != 0 {
			t.Errorf("it is still being made: %+v", f)
		}
		w.waits(1)
		if strings.Contains(w.log.String(), "cannot be held") {
			t.Errorf("told as a failure: %s", w.log)
		}
	})
}

// A checkpoint that cannot be loaded is tried once for each that asks, and keeps nobody else
// from being served.
func TestHoldingFails(t *testing.T) {
	run(t, config.Pool{Size: 1, Max: 1}, func(w *world) {
		w.Restorer = &restorer{world: w, fails: errors.New("it is damaged")}
		w.waits(1)
		w.Take(warm)
		w.Take(warm)
		w.waits(1)
		time.Sleep(time.Hour)
		if n := strings.Count(w.log.String(), "it is damaged"); n != 1 {
			t.Errorf("told %d times: %s", n, w.log)
		}
		w.gone(w.take())
		w.waits(1)
	})
}

// What is held of a checkpoint that is gone is not taken over.
func TestTakesOverWhatIsRestorable(t *testing.T) {
	for _, removed := range []bool{false, true} {
		run(t, config.Pool{Size: 1, Max: 1}, func(w *world) {
			r := &restorer{world: w}
			w.Restorer = r
			w.waits(1)
			w.Take(warm)
			w.Take(warm)
			w.waits(1)
			held := w.nth(0)
			w.Close()
			r.removed = removed
			w.Pool = w.another(config.Pool{Size: 1, Max: 1})
			w.Restorer = r
			w.Run(w.t.Context())
			w.waits(1)
			if held.Shape != warm || (w.nth(0) == held) == removed {
				t.Errorf("removed %v: %v was there, %v waits", removed, held, w.nth(0))
			}
		})
	}
}
