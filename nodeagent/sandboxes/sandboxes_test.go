package sandboxes_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"brig/internal/config"
	"brig/internal/netpolicy"
	"brig/internal/sandbox"
	"brig/nodeagent/ca"
	"brig/nodeagent/engine"
	"brig/nodeagent/pool"
	"brig/nodeagent/record"
	"brig/nodeagent/sandboxes"
	"brig/nodeagent/sandboxes/fake"
	"brig/nodeagent/store"
)

const image = "localhost/x"

// node is what outlives a brigd: the machine, and the state folder.
type node struct {
	*fake.Node
	cfg  *config.Config
	ca   *ca.CA
	boot string
	gpus fake.GPUs
	// every is how often a brigd of it reconciles.
	every time.Duration
	// pulling gets an image that a registry then never finishes to send; nil: all are there.
	pulling chan string
	// creating, if set, is called when the runtime is to make a sandbox.
	creating func(id string)
	// started and counted get the id whenever one is started, or its kills are counted.
	started, counted chan string
	// pool makes what keeps sandboxes waiting; nil: nothing does.
	pool func(*store.Store) *pool.Pool
	// fails makes the first of a step fail.
	fails map[string]error
	// changed gets the links whose policy has changed; nil: nobody looks.
	changed chan string
}

func (n *node) rulesChanged(link string) {
	if n.changed != nil {
		n.changed <- link
	}
}

func (n *node) Create(ctx context.Context, s engine.Sandbox) error {
	if n.creating != nil {
		n.creating(s.ID)
	}
	return n.Node.Create(ctx, s)
}

// failOnce has the next such step of a slot fail.
func (n *node) failOnce(step string, err error) { n.fails = map[string]error{step: err} }

func (n *node) failed(step string) error {
	err := n.fails[step]
	delete(n.fails, step)
	return err
}

func (n *node) Claim(ctx context.Context, s engine.Sandbox) error {
	return errors.Join(n.failed("claim"), n.Node.Claim(ctx, s))
}

func (n *node) Start(ctx context.Context, s engine.Sandbox) error {
	if err := n.failed("start"); err != nil {
		return err
	}
	err := n.Node.Start(ctx, s)
	if n.started != nil {
		n.started <- s.ID
	}
	return err
}

func (n *node) OOMKills(ctx context.Context, id string) (int, error) {
	kills, err := n.Node.OOMKills(ctx, id)
	if n.counted != nil {
		n.counted <- id
	}
	return kills, err
}

func (n *node) Ensure(ctx context.Context, image string) error {
	if n.pulling == nil {
		return n.Node.Ensure(ctx, image)
	}
	n.pulling <- image
	<-ctx.Done()
	return context.Cause(ctx)
}

func newNode(t *testing.T) *node {
	t.Helper()
	cfg := config.Defaults()
	cfg.StateDir, cfg.RunDir = t.TempDir(), t.TempDir()
	authority, err := ca.Open(filepath.Join(cfg.StateDir, "ca"), cfg.Tunnels.Advertise)
	if err != nil {
		t.Fatal(err)
	}
	return &node{Node: fake.New(image), cfg: &cfg, ca: authority, boot: "boot-1", every: time.Hour}
}

// brigd is a manager on a node, until stop.
type brigd struct {
	*sandboxes.Manager
	store *store.Store
	parts sandboxes.Parts
	stop  func()
}

// start is a brigd that has brought the node in line.
func (n *node) start(t *testing.T) *brigd {
	t.Helper()
	b := n.recover(t)
	b.Reconcile(n.every)
	<-b.Settled()
	return b
}

// recover is one that has only taken over.
func (n *node) recover(t *testing.T) *brigd {
	t.Helper()
	b := n.open(t)
	if err := b.Recover(); err != nil {
		t.Fatal(err)
	}
	return b
}

// open is one that has done nothing yet.
func (n *node) open(t *testing.T) *brigd {
	t.Helper()
	s, err := store.Open(filepath.Join(n.cfg.StateDir, "brig.db"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	parts := n.parts()
	parts.Store = s
	if n.pool != nil {
		parts.Pool = n.pool(s)
	}
	m, err := sandboxes.New(ctx, parts)
	if err != nil {
		t.Fatal(err)
	}
	stopped := false
	stop := func() {
		if !stopped {
			stopped = true
			cancel()
			m.Close()
			s.Close()
		}
	}
	t.Cleanup(stop)
	return &brigd{m, s, parts, stop}
}

func create(t *testing.T, b *brigd, r record.Request) record.Record {
	t.Helper()
	r.Image = image
	rec, err := b.Create(t.Context(), 1000, r)
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

func wait(t *testing.T, b *brigd, rec record.Record) string {
	t.Helper()
	exit, err := b.Wait(t.Context(), rec)
	if err != nil {
		t.Fatal(err)
	}
	return string(exit.Reason)
}

func mustBeEmpty(t *testing.T, n *node) {
	t.Helper()
	if left := n.Left(); len(left) > 0 {
		t.Errorf("left on the node: %v", left)
	}
	folders, err := os.ReadDir(filepath.Dir(n.cfg.JournalDir("any")))
	if err != nil && !errors.Is(err, os.ErrNotExist) || len(folders) > 0 {
		t.Errorf("left in the state folder: %v, %v", folders, err)
	}
}

func TestLife(t *testing.T) {
	n := newNode(t)
	b := n.start(t)
	rec := create(t, b, record.Request{Name: "web"})
	if rec.State != sandbox.Running || rec.Address.String() != "10.88.0.1" || rec.Owner != 1000 {
		t.Errorf("record %+v", rec)
	}
	id := string(rec.ID)
	want := []string{"ensure " + image, "attach " + id, "create " + id, "start " + id}
	got := n.Log()
	if len(got) == len(want) {
		slices.Sort(got[1:3]) // these two at once
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("order of deeds (-want +got):\n%s", diff)
	}
	if err := b.Remove(t.Context(), rec, false); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("removing a running one: %v; want an ErrFailedPrecondition", err)
	}
	n.Exit(id, 3)
	if got := wait(t, b, rec); got != "exited" {
		t.Errorf("reason %s", got)
	}
	if err := b.Remove(t.Context(), rec, false); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Find(1000, id); !errdefs.IsNotFound(err) {
		t.Errorf("after its removal: %v", err)
	}
	mustBeEmpty(t, n)
}

func TestFiles(t *testing.T) {
	n := newNode(t)
	b := n.start(t)
	for _, tc := range []struct {
		name    string
		network netpolicy.Spec
		want    map[string]string
	}{
		{"open", netpolicy.Spec{}, map[string]string{
			"hosts":       "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n10.88.0.1\topen\n",
			"hostname":    "open\n",
			"resolv.conf": "nameserver 169.254.1.1\noptions timeout:3 attempts:2\n",
		}},
		{"blocked", netpolicy.Spec{BlockNetwork: true}, map[string]string{
			"hosts":       "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.0.1\tblocked\n",
			"hostname":    "blocked\n",
			"resolv.conf": "# This sandbox's policy has no DNS.\n",
		}},
	} {
		rec := create(t, b, record.Request{Name: tc.name, Network: tc.network})
		got := map[string]string{}
		for name := range tc.want {
			data, err := os.ReadFile(filepath.Join(n.cfg.JournalDir(string(rec.ID)), name))
			if err != nil {
				t.Fatal(err)
			}
			got[name] = string(data)
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, diff)
		}
	}
}

func TestNoNetworkIsNotAttached(t *testing.T) {
	n := newNode(t)
	rec := create(t, n.start(t), record.Request{Network: netpolicy.Spec{BlockNetwork: true}})
	if rec.Address.IsValid() || strings.Contains(strings.Join(n.Log(), " "), "attach") {
		t.Errorf("address %v, deeds %v", rec.Address, n.Log())
	}
}

func TestWhateverFailsIsUndone(t *testing.T) {
	broken := errors.New("broken")
	for _, step := range []string{"ensure", "attach", "create", "start"} {
		t.Run(step, func(t *testing.T) {
			n := newNode(t)
			b := n.start(t)
			n.Fail(step, broken)
			_, err := b.Create(t.Context(), 1000, record.Request{Image: image, Name: "web", RequestID: "r"})
			if !errors.Is(err, broken) {
				t.Errorf("%v; want %v", err, broken)
			}
			mustBeEmpty(t, n)
			if list, err := b.List(0, nil, true); err != nil || len(list) > 0 {
				t.Errorf("still listed: %v, %v", list, err)
			}
			n.Fail(step, nil)
			create(t, b, record.Request{Name: "web", RequestID: "r"}) // neither name nor request is taken
		})
	}
}

func TestWhatResistsIsUndoneLater(t *testing.T) {
	n := newNode(t)
	n.every = time.Millisecond
	b := n.start(t)
	n.Fail("start", errors.New("broken"))
	n.Fail("remove", errors.New("stuck"))
	if _, err := b.Create(t.Context(), 1000, record.Request{Image: image}); err == nil {
		t.Fatal("a create that failed is no error")
	}
	n.Fail("remove", nil)
	for {
		if list, err := b.List(0, nil, true); err != nil || len(list) == 0 {
			break
		}
		if t.Context().Err() != nil {
			t.Fatal("it stays")
		}
	}
	b.stop() // its output goes after its record
	mustBeEmpty(t, n)
}

func TestNameIsTaken(t *testing.T) {
	b := newNode(t).start(t)
	create(t, b, record.Request{Name: "web"})
	if _, err := b.Create(t.Context(), 1000, record.Request{Image: image, Name: "web"}); !errdefs.IsAlreadyExists(err) {
		t.Errorf("%v; want an ErrAlreadyExists", err)
	}
	if _, err := b.Create(t.Context(), 1001, record.Request{Image: image, Name: "web"}); err != nil {
		t.Errorf("another owner: %v", err)
	}
}

func TestRepeatedRequest(t *testing.T) {
	n := newNode(t)
	b := n.start(t)
	first := create(t, b, record.Request{RequestID: "r"})
	if again := create(t, b, record.Request{RequestID: "r"}); again.ID != first.ID {
		t.Errorf("the same request made %s and %s", first.ID, again.ID)
	}
	_, err := b.Create(t.Context(), 1000, record.Request{Image: image, RequestID: "r", Name: "other"})
	if !errdefs.IsInvalidArgument(err) {
		t.Errorf("another request of the same id: %v; want an ErrInvalidArgument", err)
	}
	b.stop()
	if again := create(t, n.start(t), record.Request{RequestID: "r"}); again.ID != first.ID {
		t.Errorf("after a restart the same request made %s and %s", first.ID, again.ID)
	}
}

func TestCallerGoes(t *testing.T) {
	n := newNode(t)
	b := n.start(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.Create(ctx, 1000, record.Request{Image: image}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v; want the context's end", err)
	}
	mustBeEmpty(t, n)
	if _, err := b.Create(ctx, 1000, record.Request{Image: image, RequestID: "r"}); err != nil {
		t.Errorf("with a request id: %v; want it made, since the caller can come back for it", err)
	}
}

func TestEnds(t *testing.T) {
	for _, tc := range []struct {
		name, want string
		request    record.Request
		end        func(n *node, b *brigd, rec record.Record)
	}{
		{"timeout", "124 timeout", record.Request{Timeout: 20 * time.Millisecond}, func(*node, *brigd, record.Record) {}},
		{"terminate", "137 terminated", record.Request{}, func(_ *node, b *brigd, rec record.Record) { _, _ = b.Terminate(context.Background(), rec, 0) }},
		{"terminate in peace", "137 terminated", record.Request{}, func(_ *node, b *brigd, rec record.Record) { _, _ = b.Terminate(context.Background(), rec, time.Hour) }},
		{"signal", "139 signal", record.Request{}, func(n *node, _ *brigd, rec record.Record) { n.Exit(string(rec.ID), 139) }},
		// Whether anybody has heard of it does not matter: the host counts.
		{"out of memory", "137 oom", record.Request{}, func(n *node, _ *brigd, rec record.Record) { n.Starve(string(rec.ID)) }},
		{"killed, with memory left", "137 signal", record.Request{}, func(n *node, _ *brigd, rec record.Record) { n.Exit(string(rec.ID), 137) }},
		{"its kernel dies", "137 runtime_crash", record.Request{}, func(n *node, _ *brigd, rec record.Record) { n.Crash(string(rec.ID)) }},
		{"idle timeout", "124 idle_timeout", record.Request{IdleTimeout: time.Second}, func(*node, *brigd, record.Record) {}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := newNode(t)
			b := n.start(t)
			rec := create(t, b, tc.request)
			tc.end(n, b, rec)
			exit, err := b.Wait(t.Context(), rec)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, code(exit)); diff != "" {
				t.Errorf("exit (-want +got):\n%s", diff)
			}
			if err := b.Remove(t.Context(), rec, false); err != nil {
				t.Fatal(err)
			}
			mustBeEmpty(t, n)
		})
	}
}

// Whoever asks again and again for an end in peace is answered by one goroutine, and an
// earlier end is not kept waiting by it.
func TestTerminateAgainAndAgain(t *testing.T) {
	n := newNode(t)
	b := n.start(t)
	rec := create(t, b, record.Request{})
	n.Fail("kill(15)", errors.New("the program does not listen"))
	for range 20 {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		if _, err := b.Terminate(ctx, rec, time.Hour); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("within the grace: %v", err)
		}
		cancel()
	}
	if _, err := b.Terminate(t.Context(), rec, 0); err != nil {
		t.Fatal(err)
	}
	asked := 0
	for _, deed := range n.Log() {
		if strings.HasPrefix(deed, "kill(15)") {
			asked++
		}
	}
	if asked != 1 {
		t.Errorf("the program was asked %d times to end; want once", asked)
	}
}

func code(e record.Exit) string {
	return strings.Join([]string{itoa(e.Code), string(e.Reason)}, " ")
}

func itoa(n int) string {
	return string([]byte{byte('0' + n/100), byte('0' + n/10%10), byte('0' + n%10)})
}

func TestShimDies(t *testing.T) {
	n := newNode(t)
	b := n.start(t)
	rec := create(t, b, record.Request{})
	b.stop()
	n.Lose(string(rec.ID))
	b = n.start(t)
	if got := wait(t, b, rec); got != "runtime_crash" {
		t.Errorf("reason %s; want runtime_crash", got)
	}
}

func TestKernelDiesWhileBrigdIsAway(t *testing.T) {
	n := newNode(t)
	b := n.start(t)
	rec := create(t, b, record.Request{})
	b.stop()
	n.Crash(string(rec.ID))
	if got := wait(t, n.start(t), rec); got != "runtime_crash" {
		t.Errorf("reason %s; want runtime_crash", got)
	}
}

func TestRestart(t *testing.T) {
	n := newNode(t)
	b := n.start(t)
	kept := create(t, b, record.Request{Name: "kept"})
	late := create(t, b, record.Request{Timeout: 50 * time.Millisecond})
	ended := create(t, b, record.Request{})
	b.stop()
	n.Exit(string(ended.ID), 4) // while nobody looks
	b = n.start(t)
	if got, err := b.Find(1000, "kept"); err != nil || got.ID != kept.ID || got.Address != kept.Address || got.State != sandbox.Running {
		t.Errorf("%+v, %v; want %+v", got, err, kept)
	}
	if got := wait(t, b, late); got != "timeout" {
		t.Errorf("the deadline was forgotten: %s", got)
	}
	exit, err := b.Wait(t.Context(), ended)
	if err != nil || exit.Code != 4 {
		t.Errorf("%+v, %v; want code 4", exit, err)
	}
}

func TestReboot(t *testing.T) {
	n := newNode(t)
	b := n.start(t)
	rec := create(t, b, record.Request{})
	b.stop()
	n.Lose(string(rec.ID))
	n.boot = "boot-2"
	if got := wait(t, n.start(t), rec); got != "lost" {
		t.Errorf("reason %s; want lost", got)
	}
}

func TestHalfMadeIsUndoneAtStart(t *testing.T) {
	n := newNode(t)
	b := n.start(t)
	rec := record.Record{
		ID: sandbox.NewID(), Owner: 1000, State: sandbox.Creating, Request: record.Request{Image: image, RequestID: "r", Name: "web"},
	}
	if _, err := b.store.Add(rec); err != nil {
		t.Fatal(err)
	}
	// As far as a brigd came that was killed before it could record more.
	if _, err := n.Prepare(string(rec.ID)); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Attach(t.Context(), string(rec.ID), netpolicy.Open()); err != nil {
		t.Fatal(err)
	}
	if err := n.Create(t.Context(), engine.Sandbox{ID: string(rec.ID)}); err != nil {
		t.Fatal(err)
	}
	b.stop()
	b = n.start(t)
	mustBeEmpty(t, n)
	create(t, b, record.Request{RequestID: "r", Name: "web"})
}

// A create that failed and could not be undone is nothing that a repeat is answered with.
func TestStillbornIsNobodysAnswer(t *testing.T) {
	n := newNode(t)
	b := n.start(t)
	fault := errors.New("a shim that does not end")
	n.Fail("start", errors.New("no"))
	n.Fail("remove", fault)
	r := record.Request{Image: image, RequestID: "r", Name: "web"}
	if _, err := b.Create(t.Context(), 1000, r); err == nil {
		t.Fatal("a create that failed is told of as made")
	}
	n.Fail("start", nil)
	if rec, err := b.Create(t.Context(), 1000, r); !errdefs.IsUnavailable(err) || !errors.Is(err, fault) {
		t.Errorf("repeated while it is not undone: %+v, %v; want an ErrUnavailable", rec.Exit, err)
	}
	n.Fail("remove", nil)
	rec, err := b.Create(t.Context(), 1000, r)
	if err != nil || rec.State != sandbox.Running {
		t.Errorf("repeated when it can be undone: %+v, %v", rec, err)
	}
	if all, err := b.store.All(); err != nil || len(all) != 1 {
		t.Errorf("%d records, %v; want the one that runs", len(all), err)
	}
}

// What is being made can be ended, also when its caller wants it whatever happens.
func TestAHangingPullCanBeEnded(t *testing.T) {
	for name, end := range map[string]func(b *brigd, rec record.Record) error{
		"terminate": func(b *brigd, rec record.Record) error {
			_, err := b.Terminate(t.Context(), rec, time.Hour)
			return err
		},
		"remove": func(b *brigd, rec record.Record) error { return b.Remove(t.Context(), rec, true) },
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			n.pulling = make(chan string)
			b := n.start(t)
			made := make(chan error)
			go func() {
				_, err := b.Create(t.Context(), 1000, record.Request{Image: image, RequestID: "r", Name: "web"})
				made <- err
			}()
			<-n.pulling
			rec, err := b.Find(1000, "web")
			if err != nil {
				t.Fatal(err)
			}
			if err := end(b, rec); err != nil && !errdefs.IsNotFound(err) {
				t.Errorf("%v; want it ended", err)
			}
			if err := <-made; !errdefs.IsAborted(err) {
				t.Errorf("create: %v; want an ErrAborted", err)
			}
			mustBeEmpty(t, n)
		})
	}
}

// Of a damaged record nothing is guessed, and no sandbox is taken for an orphan.
func TestADamagedRecordStopsTheStart(t *testing.T) {
	n := newNode(t)
	b := n.start(t)
	rec := create(t, b, record.Request{})
	b.stop()
	path := filepath.Join(n.cfg.StateDir, "brig.db")
	s, err := store.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Update(rec.ID, func(r *record.Record) error { r.State = "asleep"; return nil }); err != nil {
		t.Fatal(err)
	}
	parts := n.parts()
	parts.Store = s
	m, err := sandboxes.New(t.Context(), parts)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Recover(); !errors.Is(err, sandboxes.ErrRecords) {
		t.Errorf("%v; want an ErrRecords", err)
	}
	if left := n.Left(); len(left) != 2 {
		t.Errorf("left %v; want the task and its network", left)
	}
}

func TestOrphans(t *testing.T) {
	n := newNode(t)
	orphan := string(sandbox.NewID())
	if err := n.Create(t.Context(), engine.Sandbox{ID: orphan}); err != nil {
		t.Fatal(err)
	}
	if err := n.Create(t.Context(), engine.Sandbox{ID: "somebody-elses"}); err != nil {
		t.Fatal(err)
	}
	left := map[string]bool{ // by path, and whether it stays
		filepath.Join(n.cfg.SecretsDir(), string(sandbox.NewID())):                                         false,
		n.cfg.PhasesFile(n.cfg.Containerd.Namespace, string(sandbox.NewID())):                              false,
		n.cfg.PhasesFile(n.cfg.Containerd.Namespace, string(sandbox.NewID())) + ".next":                    false,
		filepath.Join(n.cfg.BindsDir(), string(sandbox.NewID()), "0"):                                      false,
		filepath.Join(n.cfg.SecretsDir(), "key"):                                                           true,
		filepath.Join(filepath.Dir(n.cfg.PhasesFile("another", "any")), "sb-aaaaaaaaaaaaaaaa"):             true,
		filepath.Join(filepath.Dir(n.cfg.PhasesFile(n.cfg.Containerd.Namespace, "any")), "somebody-elses"): true,
	}
	for path := range left {
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	n.start(t)
	if diff := cmp.Diff([]string{"task somebody-elses"}, n.Left()); diff != "" {
		t.Errorf("left (-want +got):\n%s", diff)
	}
	for path, stays := range left {
		if _, err := os.Lstat(path); (err == nil) != stays {
			t.Errorf("%s: %v; want it to stay: %v", path, err, stays)
		}
	}
}

func TestWhoSeesWhat(t *testing.T) {
	b := newNode(t).start(t)
	rec := create(t, b, record.Request{Name: "web", Tags: map[string]string{"a": "1", "b": "2"}})
	for _, ref := range []string{string(rec.ID), "web"} {
		for uid, want := range map[uint32]bool{1000: true, 0: true, 1001: false} {
			if _, err := b.Find(uid, ref); (err == nil) != want || err != nil && !errdefs.IsNotFound(err) {
				t.Errorf("uid %d looks for %s: %v; want it found: %v", uid, ref, err, want)
			}
		}
	}
	for _, tc := range []struct {
		uid  uint32
		tags map[string]string
		want int
	}{
		{1000, nil, 1}, {0, nil, 1}, {1001, nil, 0},
		{1000, map[string]string{"a": "1"}, 1}, {1000, map[string]string{"a": "1", "b": "1"}, 0}, {1000, map[string]string{"c": ""}, 0},
	} {
		if list, err := b.List(tc.uid, tc.tags, false); err != nil || len(list) != tc.want {
			t.Errorf("uid %d lists %v: %d, %v; want %d", tc.uid, tc.tags, len(list), err, tc.want)
		}
	}
}

func TestTunnels(t *testing.T) {
	service, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer service.Close()
	go func() {
		for {
			conn, err := service.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte("hello"))
			conn.Close()
		}
	}()
	port := record.Port{Sandbox: uint16(service.Addr().(*net.TCPAddr).Port), Kind: record.TCP}
	n := newNode(t)
	b := n.start(t)
	rec := create(t, b, record.Request{Ports: []record.Port{port}})
	at := rec.Tunnels[0]
	if again, err := b.OpenTunnel(rec, port); err != nil || again.Tunnel != at {
		t.Errorf("opened again: %+v, %v; want %+v", again, err, at)
	}
	if _, err := b.OpenTunnel(rec, record.Port{Sandbox: port.Sandbox, Kind: record.TLS}); !errdefs.IsAlreadyExists(err) {
		t.Errorf("of another kind: %v; want an ErrAlreadyExists", err)
	}
	greeting(t, at)
	b.stop()
	b = n.start(t)
	greeting(t, at) // on the same port
	if err := b.CloseTunnel(rec, port); err != nil {
		t.Fatal(err)
	}
	if err := b.CloseTunnel(rec, port); !errdefs.IsNotFound(err) {
		t.Errorf("closed again: %v; want an ErrNotFound", err)
	}
	if conn, err := net.DialTCP("tcp", nil, address(at)); err == nil {
		conn.Close()
		t.Error("a closed tunnel accepts")
	}
	if _, err := b.Terminate(t.Context(), rec, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := b.OpenTunnel(rec, port); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("to an ended sandbox: %v; want an ErrFailedPrecondition", err)
	}
}

func address(t record.Tunnel) *net.TCPAddr {
	return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(t.Listen)}
}

func greeting(t *testing.T, at record.Tunnel) {
	t.Helper()
	conn, err := net.DialTCP("tcp", nil, address(at))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got, err := io.ReadAll(conn); err != nil || string(got) != "hello" {
		t.Errorf("through the tunnel: %q, %v", got, err)
	}
}

func TestEndAll(t *testing.T) {
	n := newNode(t)
	b := n.start(t)
	for range 3 {
		create(t, b, record.Request{})
	}
	if err := b.EndAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left := n.Left(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
