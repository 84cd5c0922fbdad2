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
