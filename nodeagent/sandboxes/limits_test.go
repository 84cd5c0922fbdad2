package sandboxes_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"brig/internal/netpolicy"
	"brig/internal/sandbox"
	"brig/nodeagent/engine"
	"brig/nodeagent/events"
	"brig/nodeagent/quota"
	"brig/nodeagent/record"
)

// An end that is told after the restart of the brigd that should have heard it.
func TestOutOfMemoryWithoutABrigd(t *testing.T) {
	n := newNode(t)
	b := n.start(t)
	rec := create(t, b, record.Request{})
	b.stop()
	n.Starve(string(rec.ID))
	if got := wait(t, n.start(t), rec); got != "oom" {
		t.Errorf("reason %s, want oom", got)
	}
}

// A kill that the sandbox survived does not explain its end.
func TestSurvivedKill(t *testing.T) {
	n := newNode(t)
	n.counted = make(chan string, 2)
	b := n.start(t)
	rec := create(t, b, record.Request{})
	listener, err := b.parts.Events.Listen(events.Filter{Sandbox: rec.ID})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	n.Starved(string(rec.ID))
	again := make(chan struct{})
	b.Watch(func(ctx context.Context, each func(engine.Event)) error {
		each(engine.Event{Sandbox: string(rec.ID), OOM: true})
		<-again
		each(engine.Event{Sandbox: string(rec.ID), OOM: true})
		<-ctx.Done()
		return ctx.Err()
	})
	if e, err := listener.Next(t.Context()); err != nil || !e.OOM {
		t.Errorf("event %+v, %v; want an OOM", e, err)
	}
	<-n.counted // a second later
	close(again)
	<-n.counted // and another one: what was counted first is noted by now
	n.Exit(string(rec.ID), 137)
	if got := wait(t, b, rec); got != "signal" {
		t.Errorf("reason %s, want signal", got)
	}
}

func TestBusyIsNotIdle(t *testing.T) {
	n := newNode(t)
	b := n.start(t)
	rec := create(t, b, record.Request{IdleTimeout: time.Second})
	begun := time.Now()
	end := b.Activity(rec.ID).Begin()
	time.AfterFunc(1500*time.Millisecond, end)
	if got := wait(t, b, rec); got != "idle_timeout" || time.Since(begun) < 2500*time.Millisecond {
		t.Errorf("%s after %v; want idle_timeout 1 s after it was busy for 1.5 s", got, time.Since(begun))
	}
	b.Activity(rec.ID).Begin()() // of one that has ended
}

// Idle time does not begin anew with a brigd, and ends what is overdue.
func TestIdleTimeIsKept(t *testing.T) {
	n := newNode(t)
	b := n.start(t)
	rec := create(t, b, record.Request{IdleTimeout: 2 * time.Second})
	since, _ := b.Activity(rec.ID).Idle()
	b.stop()
	again := n.start(t)
	if now, idle := again.Activity(rec.ID).Idle(); now != since || !idle {
		t.Errorf("idle since %v, %v; want %v", now, idle, since)
	}
	if got := wait(t, again, rec); got != "idle_timeout" {
		t.Errorf("reason %s", got)
	}
}

func TestReady(t *testing.T) {
	n := newNode(t)
	b := n.start(t)
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	port := uint16(listener.Addr().(*net.TCPAddr).Port)
	if rec := create(t, b, record.Request{Ready: &record.Probe{Port: port}}); rec.State != sandbox.Running {
		t.Errorf("%+v", rec)
	}
}

func TestNotReady(t *testing.T) {
	closed, err := new(net.ListenConfig).Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := uint16(closed.Addr().(*net.TCPAddr).Port)
	closed.Close()
	for _, tc := range []struct {
		name  string
		probe record.Probe
		while func(n *node, b *brigd, id sandbox.ID)
		want  string
		is    func(error) bool
	}{
		{"nobody listens", record.Probe{Port: port, Timeout: time.Second, Interval: 50 * time.Millisecond}, nil, "connection refused", errdefs.IsFailedPrecondition},
		{"its program ends", record.Probe{Port: port}, func(n *node, _ *brigd, id sandbox.ID) { n.Exit(string(id), 3) },
			"the sandbox's program ended with status 3 before it was ready", errdefs.IsFailedPrecondition},
		{"it is terminated", record.Probe{Port: port}, func(_ *node, b *brigd, id sandbox.ID) {
			go func() { _, _ = b.Terminate(context.Background(), record.Record{ID: id}, 0) }()
		}, "terminated before it was made", errdefs.IsAborted},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := newNode(t)
			n.started = make(chan string, 1)
			b := n.start(t)
			failed := make(chan error, 1)
			go func() {
				_, err := b.Create(t.Context(), 1000, record.Request{Image: image, Ready: &tc.probe})
				failed <- err
			}()
			if tc.while != nil {
				tc.while(n, b, sandbox.ID(<-n.started))
			}
			err := <-failed
			if err == nil || !strings.Contains(err.Error(), tc.want) || !tc.is(err) {
				t.Errorf("%v; want one that contains %q", err, tc.want)
			}
			mustBeEmpty(t, n)
		})
	}
}

func TestKilledWhileItIsProbed(t *testing.T) {
	n := newNode(t)
	n.started = make(chan string, 1)
	b := n.start(t)
	ctx, kill := context.WithCancelCause(t.Context())
	go func() { <-n.started; kill(errors.New("killed")) }()
	// A brigd that dies leaves the record as it is at this point.
	rec := record.Record{ID: sandbox.NewID(), Owner: 1000, State: sandbox.Creating, Request: record.Request{Image: image}}
	if _, err := b.store.Add(rec); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Create(ctx, 1000, record.Request{Image: image, Ready: &record.Probe{Argv: []string{"false"}}}); err == nil {
		t.Error("it was made")
	}
	b.stop()
	n.start(t)
	mustBeEmpty(t, n)
}

func TestQuota(t *testing.T) {
	n := newNode(t)
	n.cfg.Quotas.Sandboxes, n.cfg.Quotas.MemoryMiB, n.cfg.Quotas.CPU, n.cfg.Quotas.Tunnels = 2, 200, 2, 1
	b := n.start(t)
	small := record.Request{Resources: record.Resources{CPU: 0.5, MemoryMiB: 40}, RequestID: "first", Ports: []record.Port{{Sandbox: 80, Kind: record.TCP}}}
	first := create(t, b, small)
	used := func(b *brigd) quota.Amounts { return b.Quota().Used(1000) }
	want := quota.Amounts{quota.Sandboxes: 1, quota.MemoryMiB: 40, quota.MilliCPU: 500, quota.Tunnels: 1}
	if diff := cmp.Diff(want, used(b)); diff != "" {
		t.Errorf("used (-want +got):\n%s", diff)
	}
	try := func(b *brigd, uid uint32, r record.Request) error {
		r.Image = image
		_, err := b.Create(t.Context(), uid, r)
		return err
	}
	resources := func(cpu float64, memory uint64) record.Request {
		return record.Request{Resources: record.Resources{CPU: cpu, MemoryMiB: memory}}
	}
	withPort := resources(0.5, 40)
	withPort.Ports = []record.Port{{Sandbox: 81, Kind: record.TCP}}
	for name, tc := range map[string]struct {
		r    record.Request
		want string
	}{
		"memory":    {resources(0.5, 161), "quotas.memory_mib"},
		"cpu":       {resources(1.6, 40), "quotas.cpu"},
		"a tunnel":  {withPort, "quotas.tunnels"},
		"no limits": {record.Request{}, "resources.cpu is missing"},
	} {
		if err := try(b, 1000, tc.r); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v; want one that names %s", name, err, tc.want)
		}
	}
	if err := try(b, 0, record.Request{}); err != nil {
		t.Errorf("root: %v", err)
	}
	create(t, b, resources(0.5, 40))
	if err := try(b, 1000, resources(0.5, 32)); !errdefs.IsResourceExhausted(err) {
		t.Errorf("a third one: %v", err)
	}
	if err := try(b, 1000, small); err != nil {
		t.Errorf("a repeated request needs nothing new: %v", err)
	}
	b.stop()
	b = n.start(t)
	want = quota.Amounts{quota.Sandboxes: 2, quota.MemoryMiB: 80, quota.MilliCPU: 1000, quota.Tunnels: 1}
	if diff := cmp.Diff(want, used(b)); diff != "" {
		t.Errorf("used after a restart (-want +got):\n%s", diff)
	}
	if err := b.CloseTunnel(first, record.Port{Sandbox: 80, Kind: record.TCP}); err != nil {
		t.Fatal(err)
	}
	if err := b.Remove(t.Context(), first, true); err != nil {
		t.Fatal(err)
	}
	if got := used(b); got[quota.Sandboxes] != 1 || got[quota.Tunnels] != 0 {
		t.Errorf("used after an end %v", got)
	}
	if err := try(b, 1000, resources(0.5, 32)); err != nil {
		t.Errorf("in the place of one that has ended: %v", err)
	}
}

func TestQuotaIsGivenBackByAFailedCreate(t *testing.T) {
	n := newNode(t)
	b := n.start(t)
	for _, step := range []string{"ensure", "attach", "create", "start"} {
		n.Fail(step, errors.New("no"))
		if _, err := b.Create(t.Context(), 1000, record.Request{Image: image}); err == nil {
			t.Errorf("%s does not fail", step)
		}
		n.Fail(step, nil)
	}
	if got := b.Quota().Used(1000); got != (quota.Amounts{}) {
		t.Errorf("used %v", got)
	}
}

// Values of secrets are nowhere but where the shim finds them, while it needs them.
func TestSecrets(t *testing.T) {
	n := newNode(t)
	b := n.start(t)
	const secret = "a-very-secret-value"
	r := record.Request{RequestID: "r", Secrets: record.Secrets{"TOKEN": secret}}
	var handed []byte
	n.creating = func(id string) {
		handed, _ = os.ReadFile(filepath.Join(n.cfg.SecretsDir(), id))
	}
	rec := create(t, b, r)
	if !bytes.Contains(handed, []byte(secret)) {
		t.Errorf("the shim finds %q", handed)
	}
	if again := create(t, b, r); again.ID != rec.ID {
		t.Errorf("the same request made %s and %s", rec.ID, again.ID)
	}
	other := r
	other.Image, other.Secrets = image, record.Secrets{"TOKEN": "another"}
	if _, err := b.Create(t.Context(), 1000, other); !errdefs.IsInvalidArgument(err) {
		t.Errorf("with another secret: %v", err)
	}
	n.Fail("create", errors.New("no"))
	if _, err := b.Create(t.Context(), 1000, record.Request{Image: image, Secrets: r.Secrets}); err == nil || strings.Contains(err.Error(), secret) {
		t.Errorf("%v", err)
	}
	b.stop()
	for _, dir := range []string{n.cfg.StateDir, n.cfg.RunDir} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			data, err := os.ReadFile(path)
			if bytes.Contains(data, []byte(secret)) {
				t.Errorf("%s has the secret", path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestBindMounts(t *testing.T) {
	n := newNode(t)
	n.cfg.Mounts.Roots = []string{t.TempDir()}
	b := n.start(t)
	r := record.Request{Image: image, Mounts: []record.Mount{{Source: n.cfg.Mounts.Roots[0], Target: "/data", Writable: true}}}
	if _, err := b.Create(t.Context(), 1000, r); !errdefs.IsPermissionDenied(err) {
		t.Errorf("a writable one for somebody else than root: %v", err)
	}
	r.Mounts[0] = record.Mount{Source: "/etc", Target: "/data"}
	if _, err := b.Create(t.Context(), 1000, r); !errdefs.IsPermissionDenied(err) {
		t.Errorf("of a folder that is not shown: %v", err)
	}
	if left := n.Left(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if _, err := b.Create(t.Context(), 0, record.Request{Image: image, Network: netpolicy.Spec{}, Mounts: []record.Mount{{Target: "/scratch", Writable: true}}}); err != nil {
		t.Errorf("a tmpfs: %v", err)
	}
}
