package sandboxes_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"brig/internal/sandbox"
	"brig/nodeagent/metrics"
	"brig/nodeagent/record"
	"brig/nodeagent/sandboxes/fake"
)

// withGPUs is a node that has so many.
func withGPUs(t *testing.T, count int) *node {
	t.Helper()
	n := newNode(t)
	n.gpus = fake.GPUs{Count: count}
	return n
}

func some(count uint32) record.Request { return record.Request{GPU: &record.GPURequest{Count: count}} }

func these(devices ...string) record.Request {
	return record.Request{GPU: &record.GPURequest{Devices: devices}}
}

func imaged(r record.Request) record.Request {
	r.Image = image
	return r
}

// states are the node's GPUs as root sees them: "free", or the ids that have one.
func (b *brigd) states() (list []string) {
	_, all := b.GPUsFor(0)
	for _, g := range all {
		words := []string{}
		if g.Free {
			words = append(words, "free")
		}
		for _, id := range g.Sandboxes {
			words = append(words, string(id))
		}
		list = append(list, strings.Join(words, " "))
	}
	return list
}

func (b *brigd) wantStates(t *testing.T, when string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, b.states()); diff != "" {
		t.Errorf("%s (-want +got):\n%s", when, diff)
	}
}

// comesTo waits until they are as wanted.
func (b *brigd) comesTo(t *testing.T, want ...string) {
	t.Helper()
	for !slices.Equal(b.states(), want) {
		if t.Context().Err() != nil {
			t.Fatalf("%q, want %q", b.states(), want)
		}
		runtime.Gosched()
	}
}

// refused tries to create.
func (b *brigd) refused(t *testing.T, r record.Request, is func(error) bool, want string) {
	t.Helper()
	r.Image = image
	rec, err := b.Create(t.Context(), 1000, r)
	if !is(err) || !strings.Contains(err.Error(), want) {
		t.Errorf("%+v: %v %v, want %q", r.GPU, rec.ID, err, want)
	}
}

func TestGPUsAreAllotted(t *testing.T) {
	n := withGPUs(t, 4)
	b := n.start(t)
	one := create(t, b, these("nvidia.com/gpu=2"))
	two := create(t, b, some(2))
	if diff := cmp.Diff([]string{fake.UUID(0), fake.UUID(1)}, two.GPUs); diff != "" {
		t.Errorf("any two (-want +got):\n%s", diff)
	}
	made := n.Made(string(two.ID))
	if !slices.Equal(made.GPUs, two.GPUs) || !slices.Equal(made.GPUCapabilities, []string{"compute", "utility"}) {
		t.Errorf("the runtime is asked for %v with %v", made.GPUs, made.GPUCapabilities)
	}
	b.wantStates(t, "with both", string(two.ID), string(two.ID), string(one.ID), "free")
	if got := b.GPUStates(); got != (metrics.GPUs{Free: 1, Allotted: 3}) {
		t.Errorf("figures %+v", got)
	}
	b.refused(t, these("2"), errdefs.IsResourceExhausted, "GPU 2 belongs to another sandbox, and 1 of 4 are free")
	b.refused(t, these(fake.UUID(2)), errdefs.IsResourceExhausted, "belongs to another sandbox")
	b.refused(t, some(2), errdefs.IsResourceExhausted, "2 GPUs are asked for, and 1 of 4 are free")
	b.refused(t, some(5), errdefs.IsFailedPrecondition, "this node has 4 that it can give")
	b.refused(t, these("4"), errdefs.IsNotFound, "there is no GPU 4: brig node info lists those of this node")
	b.refused(t, these("3", fake.UUID(3)), errdefs.IsInvalidArgument, "asked for twice")
	b.wantStates(t, "after refusals", string(two.ID), string(two.ID), string(one.ID), "free")
	_, others := b.GPUsFor(1001)
	if others[0].Free || len(others[0].Sandboxes) > 0 {
		t.Errorf("to another uid: %+v", others[0])
	}
}

// TestGPUsComeBack however a sandbox ends.
func TestGPUsComeBack(t *testing.T) {
	n := withGPUs(t, 1)
	b := n.start(t)
	for name, end := range map[string]func(record.Record){
		"its program exits": func(r record.Record) { n.Exit(string(r.ID), 0) },
		"its kernel dies":   func(r record.Record) { n.Crash(string(r.ID)) },
		"it is terminated":  func(r record.Record) { _, _ = b.Terminate(t.Context(), r, 0) },
		"it is removed":     func(r record.Record) { _ = b.Remove(t.Context(), r, true) },
	} {
		rec := create(t, b, some(1))
		b.wantStates(t, name, string(rec.ID))
		end(rec)
		b.comesTo(t, "free")
	}
	short := some(1)
	short.Timeout = time.Millisecond
	if got := wait(t, b, create(t, b, short)); got != "timeout" {
		t.Errorf("reason %s", got)
	}
	b.comesTo(t, "free")
}

// TestGPUsOfAFailedCreate come back, and not before nothing of it is left.
func TestGPUsOfAFailedCreate(t *testing.T) {
	n := withGPUs(t, 1)
	n.every = time.Millisecond
	b := n.start(t)
	broken := errors.New("broken")
	for _, step := range []string{"ensure", "attach", "create", "start"} {
		n.Fail(step, broken)
		b.refused(t, some(1), func(err error) bool { return errors.Is(err, broken) }, "broken")
		n.Fail(step, nil)
		b.wantStates(t, step, "free")
	}
	n.Fail("start", broken)
	n.Fail("remove", broken)
	b.refused(t, some(1), func(err error) bool { return errors.Is(err, broken) }, "broken")
	if got := b.states()[0]; !strings.HasPrefix(got, "sb-") {
		t.Errorf("while its task may be there it is %q", got)
	}
	b.refused(t, these("0"), errdefs.IsResourceExhausted, "belongs to another sandbox")
	n.Fail("start", nil)
	n.Fail("remove", nil)
	b.comesTo(t, "free")
	if left := n.Left(); len(left) > 0 {
		t.Errorf("given back with %v left", left)
	}
}

// TestBrokenGPUs: the look before a create takes nothing.
func TestBrokenGPUs(t *testing.T) {
	n := withGPUs(t, 2)
	n.gpus.Unusable = []int{1}
	b := n.start(t)
	b.refused(t, some(2), errdefs.IsFailedPrecondition, "GPU with minor number 1 is broken")
	b.wantStates(t, "after it", "free", "free")
	create(t, b, these("0"))
	if log := n.Log(); len(log) != 4 {
		t.Errorf("done: %q", log)
	}
}

// TestGPUsAfterADeath: the records alone say whose they are.
func TestGPUsAfterADeath(t *testing.T) {
	n := withGPUs(t, 4)
	b := n.start(t)
	running := create(t, b, these("1"))
	ended := create(t, b, these("2"))
	n.Fail("remove", errors.New("broken"))
	n.Exit(string(ended.ID), 0)
	wait(t, b, ended)
	b.stop()
	b = n.open(t)
	half := record.Record{
		ID: sandbox.NewID(), Owner: 1000, State: sandbox.Creating, CreatedAt: time.Now(), GPUs: []string{fake.UUID(3)},
		Request: record.Request{Image: image, Timeout: time.Minute, GPU: these("3").GPU},
	}
	if _, err := b.store.Add(half); err != nil {
		t.Fatal(err)
	}
	b.stop()
	b = n.recover(t)
	b.wantStates(t, "before anything is undone", "free", string(running.ID), string(ended.ID), string(half.ID))
	impatient, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.Create(impatient, 1001, imaged(these("3"))); !errdefs.IsUnavailable(err) {
		t.Errorf("asked for before it is undone: %v", err)
	}
	asked := make(chan record.Record, 1)
	go func() {
		rec, err := b.Create(t.Context(), 1001, imaged(these("3")))
		if err != nil {
			t.Error(err)
		}
		asked <- rec
	}()
	n.Fail("remove", nil)
	b.Reconcile(time.Millisecond)
	again := <-asked
	b.comesTo(t, "free", string(running.ID), "free", string(again.ID))
	if got := n.Made(string(running.ID)).GPUs; !slices.Equal(got, []string{fake.UUID(1)}) {
		t.Errorf("it runs with %v", got)
	}
}

// TestRepeatedGPURequest has what the first one made, though nothing is free.
func TestRepeatedGPURequest(t *testing.T) {
	n := withGPUs(t, 1)
	b := n.start(t)
	request := some(1)
	request.RequestID = "key"
	first := create(t, b, request)
	again := create(t, b, request)
	if again.ID != first.ID {
		t.Errorf("%s, and again %s", first.ID, again.ID)
	}
	b.wantStates(t, "after both", string(first.ID))
}

// TestManyWantGPUs at once: each GPU has one owner.
func TestManyWantGPUs(t *testing.T) {
	n := withGPUs(t, 8)
	b := n.start(t)
	var mu sync.Mutex
	owners := map[string]sandbox.ID{}
	var group sync.WaitGroup
	for i := range 20 {
		r := some(1)
		if i%2 == 0 {
			r = these(fmt.Sprint(i % 8))
		}
		r.Image = image
		group.Go(func() {
			rec, err := b.Create(t.Context(), 1000, r)
			if err != nil {
				if !errdefs.IsResourceExhausted(err) {
					t.Error(err)
				}
				return
			}
			mu.Lock()
			defer mu.Unlock()
			for _, uuid := range rec.GPUs {
				if owners[uuid] != "" {
					t.Errorf("%s belongs to %s and %s", uuid, owners[uuid], rec.ID)
				}
				owners[uuid] = rec.ID
			}
		})
	}
	group.Wait()
	if len(owners) < 4 {
		t.Errorf("%d have an owner", len(owners))
	}
}

func TestSharedGPUs(t *testing.T) {
	n := withGPUs(t, 2)
	n.cfg.GPU.Shared = true
	b := n.start(t)
	one, two, three := create(t, b, some(1)), create(t, b, some(1)), create(t, b, these("0"))
	if one.GPUs[0] == two.GPUs[0] {
		t.Errorf("both have %s while another is idle", one.GPUs[0])
	}
	first, second := string(min(one.ID, three.ID)), string(max(one.ID, three.ID))
	b.wantStates(t, "shared", "free "+first+" "+second, "free "+string(two.ID))
}

func TestGPUQuota(t *testing.T) {
	n := withGPUs(t, 4)
	n.cfg.Quotas.GPUs = 2
	b := n.start(t)
	create(t, b, some(1))
	b.refused(t, some(2), errdefs.IsResourceExhausted, "uid 1000 has 1 GPUs and asks for 2 more: at most 2 (quotas.gpus)")
	create(t, b, these("3"))
	b.stop()
	b = n.start(t)
	b.refused(t, some(1), errdefs.IsResourceExhausted, "(quotas.gpus)")
}

// TestNoGPUs says why, and makes nothing.
func TestNoGPUs(t *testing.T) {
	n := newNode(t)
	n.gpus = fake.GPUs{Unavailable: "there is no driver"}
	b := n.start(t)
	b.refused(t, some(1), errdefs.IsFailedPrecondition, "this node has no GPUs: there is no driver")
	if log := n.Log(); len(log) > 0 {
		t.Errorf("done: %q", log)
	}
	mustBeEmpty(t, n)
}
