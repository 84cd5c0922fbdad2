// Package fake is a runtime, a network and its rules in memory, for tests of what is
// built on them. They keep the promises that package sandboxes relies on: names are unique,
// removal is complete, may be repeated and ends what runs, waiting returns once a
// program has ended. A test can have any one step fail.
package fake

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/errdefs"

	"brig/internal/netpolicy"
	"brig/nodeagent/engine"
	"brig/nodeagent/standing"
)

// Node is all three.
type Node struct {
	mu    sync.Mutex // guards what follows
	fail  map[string]error
	tasks map[string]*task
	execs map[string]*program // by sandbox and id
	nets  map[string]netip.Addr
	next  netip.Addr
	rules map[string]*standing.Standing
	// generations count the changes.
	generations map[string]uint64
	// difference is what Live says.
	difference string
	// Images that Ensure finds.
	images map[string]bool
	log    []string
}

type task struct {
	made    engine.Sandbox
	waits   bool // it has no program
	started bool
	paused  bool
	ended   chan struct{}
	status  int
	ooms    int
	crashed bool
}

// New returns a node with the images.
func New(images ...string) *Node {
	n := &Node{
		fail: map[string]error{}, tasks: map[string]*task{}, execs: map[string]*program{}, nets: map[string]netip.Addr{},
		next: netip.MustParseAddr("10.88.0.1"), images: map[string]bool{}, rules: map[string]*standing.Standing{},
		generations: map[string]uint64{},
	}
	for _, i := range images {
		n.images[i] = true
	}
	return n
}

// Fail has a step fail from now on: ensure, create, boot, claim, start, remove, attach, detach, change;
// with a nil error it works again.
func (n *Node) Fail(step string, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.fail[step] = err
}

// Log is what was done, in order, as "step id".
func (n *Node) Log() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.log)
}

// Left lists what is there, as "task id" and "net id".
func (n *Node) Left() (left []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for id := range n.tasks {
		left = append(left, "task "+id)
	}
	for id := range n.nets {
		left = append(left, "net "+id)
	}
	slices.Sort(left)
	return left
}

// Exit ends a sandbox's program by itself.
func (n *Node) Exit(id string, status int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.end(id, status)
}

func (n *Node) end(id string, status int) {
	if t := n.tasks[id]; t != nil {
		select {
		case <-t.ended:
		default:
			t.status = status
			close(t.ended)
			n.endExecs(id)
		}
	}
}

// step begins a call; the lock is held when it returns nil.
func (n *Node) step(name, id string) error {
	n.mu.Lock()
	n.log = append(n.log, name+" "+id)
	if err := n.fail[name]; err != nil {
		n.mu.Unlock()
		return err
	}
	return nil
}

// Resize is logged with its size.
func (n *Node) Resize(_ context.Context, id string, columns, rows uint16) error {
	if err := n.step("resize", fmt.Sprintf("%s %dx%d", id, columns, rows)); err != nil {
		return err
	}
	defer n.mu.Unlock()
	if n.tasks[id] == nil {
		return fmt.Errorf("task %s: %w", id, errdefs.ErrNotFound)
	}
	return nil
}

// Ensure finds an image.
func (n *Node) Ensure(_ context.Context, image string) error {
	if err := n.step("ensure", image); err != nil {
		return err
	}
	defer n.mu.Unlock()
	if !n.images[image] {
		return errdefs.ErrNotFound.WithMessage("there is no image " + image)
	}
	return nil
}

// Create makes a task.
func (n *Node) Create(_ context.Context, s engine.Sandbox) error {
	if err := n.step("create", s.ID); err != nil {
		return err
	}
	defer n.mu.Unlock()
	if n.tasks[s.ID] != nil {
		return errdefs.ErrAlreadyExists
	}
	n.tasks[s.ID] = &task{made: s, waits: s.Waits, ended: make(chan struct{})}
	return nil
}

// Boot makes a task without a program.
func (n *Node) Boot(_ context.Context, s engine.Slot) error {
	if err := n.step("boot", s.ID); err != nil {
		return err
	}
	defer n.mu.Unlock()
	n.tasks[s.ID] = &task{waits: true, ended: make(chan struct{})}
	return nil
}

// Waits tells that it has none yet.
func (n *Node) Waits(_ context.Context, id string) (bool, error) {
	if err := n.step("waits", id); err != nil {
		return false, err
	}
	defer n.mu.Unlock()
	t := n.tasks[id]
	return t != nil && t.waits, nil
}

// Claim gives it one.
func (n *Node) Claim(_ context.Context, s engine.Sandbox) error {
	if err := n.step("claim", s.ID); err != nil {
		return err
	}
	defer n.mu.Unlock()
	t := n.tasks[s.ID]
	if t == nil || !t.waits {
		return fmt.Errorf("claim %s: %w", s.ID, errdefs.ErrFailedPrecondition)
	}
	t.made, t.waits = s, false
	return nil
}

// Start starts it.
func (n *Node) Start(_ context.Context, s engine.Sandbox) error {
	if err := n.step("start", s.ID); err != nil {
		return err
	}
	defer n.mu.Unlock()
	t := n.tasks[s.ID]
	if t == nil || t.started {
		return fmt.Errorf("start %s: %w", s.ID, errdefs.ErrFailedPrecondition)
	}
	t.started = true
	if _, attached := n.nets[s.ID]; attached && n.rules[s.ID] == nil { // the gate's part
		n.rules[s.ID] = &standing.Standing{Grant: &standing.Grant{Policy: netpolicy.Open(), Generation: 1}}
	}
	return nil
}

// Wait returns a program's status.
func (n *Node) Wait(ctx context.Context, id string) (int, time.Time, error) {
	n.mu.Lock()
	t := n.tasks[id]
	n.mu.Unlock()
	if t == nil {
		return 0, time.Time{}, errdefs.ErrNotFound
	}
	select {
	case <-t.ended:
		return t.status, time.Now(), nil
	case <-ctx.Done():
		return 0, time.Time{}, context.Cause(ctx)
	}
}

// Kill ends a program, which obeys every signal.
func (n *Node) Kill(_ context.Context, id string, signal syscall.Signal) error {
	if err := n.step(fmt.Sprintf("kill(%d)", signal), id); err != nil {
		return err
	}
	defer n.mu.Unlock()
	t := n.tasks[id]
	if t == nil {
		return errdefs.ErrNotFound
	}
	select {
	case <-t.ended:
		return errdefs.ErrNotFound
	default:
	}
	if signal != 0 {
		n.end(id, 128+int(signal))
	}
	return nil
}

// Remove removes a task.
func (n *Node) Remove(_ context.Context, id string) error {
	if err := n.step("remove", id); err != nil {
		return err
	}
	defer n.mu.Unlock()
	n.end(id, 137)
	delete(n.tasks, id)
	n.dropExecs(id)
	return nil
}

// Lose drops a task as if its shim had died.
func (n *Node) Lose(id string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.endExecs(id)
	n.dropExecs(id)
	delete(n.tasks, id)
}

// Names lists the tasks.
func (n *Node) Names(context.Context) (map[string]bool, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	names := map[string]bool{}
	for id := range n.tasks {
		names[id] = true
	}
	return names, nil
}

// Prepare notes a namespace.
func (n *Node) Prepare(id string) (string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, ok := n.nets[id]; ok {
		return "", errdefs.ErrAlreadyExists
	}
	n.nets[id] = netip.Addr{}
	return "/run/netns/" + id, nil
}

// Attach gives an address.
func (n *Node) Attach(_ context.Context, id string, policy netpolicy.Policy) (netip.Addr, error) {
	if err := n.step("attach", id); err != nil {
		return netip.Addr{}, err
	}
	defer n.mu.Unlock()
	if address, ok := n.nets[id]; !ok || address.IsValid() {
		return netip.Addr{}, errdefs.ErrFailedPrecondition
	}
	n.nets[id] = n.next
	n.next = n.next.Next()
	n.rules[id] = &standing.Standing{Grant: &standing.Grant{Policy: policy, Generation: 1}}
	return n.nets[id], nil
}

// AttachClosed gives an address, and no policy.
func (n *Node) AttachClosed(ctx context.Context, id string) (netip.Addr, error) {
	address, err := n.Attach(ctx, id, netpolicy.Policy{})
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.rules, id)
	return address, err
}

// Namespace is where it would be.
func (n *Node) Namespace(id string) string { return "/run/netns/" + id }

// Detach takes it back.
func (n *Node) Detach(_ context.Context, id string) error {
	if err := n.step("detach", id); err != nil {
		return err
	}
	defer n.mu.Unlock()
	delete(n.nets, id)
	delete(n.rules, id)
	return nil
}

// Attached lists the sandboxes that have an address.
func (n *Node) Attached() ([]string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Sorted(maps.Keys(n.nets)), nil
}

// Collect takes the networks of all others away.
func (n *Node) Collect(_ context.Context, live func() (map[string]bool, error)) error {
	keep, err := live()
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	maps.DeleteFunc(n.nets, func(id string, _ netip.Addr) bool { return !keep[id] })
	maps.DeleteFunc(n.rules, func(id string, _ *standing.Standing) bool { return !keep[id] })
	return nil
}

// Held lists the sandboxes that have anything.
func (n *Node) Held(context.Context) (ids []string, err error) {
	for _, line := range n.Left() {
		_, id, _ := strings.Cut(line, " ")
		ids = append(ids, id)
	}
	return ids, nil
}

// Dial connects to the host's loopback, whichever sandbox is meant.
func (n *Node) Dial(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), to.Port()).String())
}

// Starved kills something in a sandbox, as the kernel does at its memory limit.
func (n *Node) Starved(id string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if t := n.tasks[id]; t != nil {
		t.ooms++
	}
}

// Starve ends a sandbox's program so.
func (n *Node) Starve(id string) {
	n.Starved(id)
	n.Exit(id, 137)
}

// Crash ends a sandbox's kernel, and its program with it.
func (n *Node) Crash(id string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if t := n.tasks[id]; t != nil {
		t.crashed = true
	}
	n.end(id, 137)
}

// Crashed tells whether Crash was called.
func (n *Node) Crashed(_ context.Context, id string) (bool, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if t := n.tasks[id]; t != nil {
		return t.crashed, nil
	}
	return false, errdefs.ErrNotFound
}

// OOMKills counts how often Starved was called.
func (n *Node) OOMKills(_ context.Context, id string) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if t := n.tasks[id]; t != nil {
		return t.ooms, nil
	}
	return 0, errdefs.ErrNotFound
}
