package quota

import (
	"math"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"brig/internal/config"
)

func TestTake(t *testing.T) {
	l := New(config.Quotas{Sandboxes: 2, MemoryMiB: 512, CPU: 1.5})
	release, err := l.Take(1000, Sandboxes, 2)
	if err != nil {
		t.Fatal(err)
	}
	_, err = l.Take(1000, Sandboxes, 1)
	const want = "uid 1000 has 2 sandboxes and asks for 1 more: at most 2 (quotas.sandboxes); end one first"
	if !errdefs.IsResourceExhausted(err) || err.Error() != want {
		t.Errorf("beyond the limit: %v; want an ErrResourceExhausted %q", err, want)
	}
	if _, err := l.Take(1001, Sandboxes, 2); err != nil {
		t.Errorf("another uid: %v", err)
	}
	release()
	release()
	if got := l.Used(1000); got != (Amounts{}) {
		t.Errorf("after the release %v", got)
	}
	for _, tc := range []struct {
		name string
		uid  uint32
		kind Kind
		n    uint64
		ok   bool
	}{
		{"all of it", 7, MemoryMiB, 512, true},
		{"one more", 7, MemoryMiB, 1, false},
		{"nothing more", 7, MemoryMiB, 0, true},
		{"more than there can be", 8, MemoryMiB, math.MaxUint64, false},
		{"cores", 7, MilliCPU, Milli(1.5), true},
		{"a hundredth more", 7, MilliCPU, Milli(0.01), false},
		{"without a limit", 7, Execs, 1 << 40, true},
		{"root", root, Sandboxes, 3, true},
	} {
		_, err := l.Take(tc.uid, tc.kind, tc.n)
		if (err == nil) != tc.ok {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
	if got := l.Used(root)[Sandboxes]; got != 3 {
		t.Errorf("root's are not counted: %d", got)
	}
}

// A limit that was lowered refuses what is new and leaves what is.
func TestHold(t *testing.T) {
	l := New(config.Quotas{Tunnels: 1})
	release := l.Hold(1000, Tunnels, 5)
	if _, err := l.Take(1000, Tunnels, 1); !errdefs.IsResourceExhausted(err) {
		t.Errorf("above the limit: %v", err)
	}
	if diff := cmp.Diff(Amounts{Tunnels: 5}, l.Used(1000)); diff != "" {
		t.Errorf("used (-want +got):\n%s", diff)
	}
	release()
	if _, err := l.Take(1000, Tunnels, 1); err != nil {
		t.Error(err)
	}
}

func TestNobodyIsKept(t *testing.T) {
	l := New(config.Quotas{Execs: 1})
	for uid := range uint32(100) {
		if release, err := l.Take(uid, Execs, 1); err == nil {
			release()
		}
		if _, err := l.Take(uid+1, Execs, 2); err == nil {
			t.Fatal("two of one")
		}
	}
	if len(l.used) != 0 {
		t.Errorf("%d uids that have nothing are kept", len(l.used))
	}
}

func TestOnlyOneGetsTheLast(t *testing.T) {
	l := New(config.Quotas{Execs: 10})
	var got atomic.Int32
	var group sync.WaitGroup
	for range 100 {
		group.Go(func() {
			if _, err := l.Take(1000, Execs, 1); err == nil {
				got.Add(1)
			}
		})
	}
	group.Wait()
	if got.Load() != 10 {
		t.Errorf("%d of 10 were given away", got.Load())
	}
}

func TestMilli(t *testing.T) {
	for cores, want := range map[float64]uint64{0: 0, 0.01: 10, 0.1: 100, 0.3: 300, 1.5: 1500, 2: 2000, 0.0001: 1} {
		if got := Milli(cores); got != want {
			t.Errorf("%v cores are %d, want %d", cores, got, want)
		}
	}
}
