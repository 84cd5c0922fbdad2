// Package sandboxes is the life of a sandbox: it makes one of a checked request,
// watches it, ends it in time, and leaves nothing of it behind but its record and its
// output, which go with Remove.
//
// The order of things is what makes it survive a crash at any instant: the record is
// on disk before the first deed, every deed's name derives from the record's id, and
// teardown needs nothing but that id and may be repeated. So a start of brigd only
// has to look at each record: running is watched again at once, and what is half-made or
// half-removed is undone behind the calls. A sandbox never depends on brigd's process: containerd's shim holds it.
//
// A Manager is safe for concurrent use. Every live sandbox has one keeper, whose
// goroutine alone records its end. Lock order: under a keeper's only those that package
// tunnel, certificates and quota have inside, and nothing slow happens under any.
package sandboxes

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"brig/internal/config"
	"brig/internal/netpolicy"
	"brig/internal/sandbox"
	"brig/nodeagent/binds"
	"brig/nodeagent/cgroup"
	"brig/nodeagent/denials"
	"brig/nodeagent/engine"
	"brig/nodeagent/events"
	"brig/nodeagent/execs"
	"brig/nodeagent/gpus"
	"brig/nodeagent/metrics"
	"brig/nodeagent/pool"
	"brig/nodeagent/quota"
	"brig/nodeagent/record"
	"brig/nodeagent/standing"
	"brig/nodeagent/store"
)

// Runtime makes and runs what a sandbox is.
type Runtime interface {
	Images
	Saver
	Create(ctx context.Context, s engine.Sandbox) error
	// Claim is Create in a sandbox that waits.
	Claim(ctx context.Context, s engine.Sandbox) error
	Start(ctx context.Context, s engine.Sandbox) error
	Wait(ctx context.Context, id string) (status int, at time.Time, err error)
	Kill(ctx context.Context, id string, signal syscall.Signal) error
	Remove(ctx context.Context, id string) error
	Names(ctx context.Context) (map[string]bool, error)
	execs.Runtime
	// OOMKills counts what was killed in the sandbox for want of memory, until it is
	// removed.
	OOMKills(ctx context.Context, id string) (int, error)
	// Crashed tells whether a sandbox has ended because its kernel died, until it is
	// removed.
	Crashed(ctx context.Context, id string) (bool, error)
	Resize(ctx context.Context, id string, columns, rows uint16) error
	// Stat asks what a running sandbox uses.
	Stat(ctx context.Context, id string) (engine.Stat, error)
}

// Network gives a sandbox its network namespace and address.
type Network interface {
	// Prepare makes a namespace, Attach connects it.
	Prepare(id string) (netns string, err error)
	Attach(ctx context.Context, id string, policy netpolicy.Policy) (netip.Addr, error)
	Detach(ctx context.Context, id string) error
	// Namespace is the path of the network namespace that Prepare makes.
	Namespace(id string) string
	// Dial connects to a sandbox's port.
	Dial(ctx context.Context, to netip.AddrPort) (net.Conn, error)
	// Attached lists the sandboxes that have, or may have, something.
	Attached() ([]string, error)
	// Collect takes away what belongs to no sandbox that live tells of, and to nobody else.
	Collect(ctx context.Context, live func() (map[string]bool, error)) error
}

// Rules are the network policies in force on the node. A sandbox has some from its
// start until it is detached.
type Rules interface {
	// Link is the name of a sandbox's link in the transit namespace.
	Link(id string) string
	// Standing is what the node has on record; the zero value: nothing is bound.
	Standing(id string) (standing.Standing, error)
	// Live is what the kernel has now, compared with what is on record.
	Live(ctx context.Context, id string) (standing.Live, error)
	// Change puts another policy in force, for good or for a lease, and returns what
	// stands once the kernel's rules were read back. The error is an ErrAborted if
	// another generation than expected is in force; 0: any.
	Change(ctx context.Context, id string, policy netpolicy.Policy, expected uint64, lease time.Duration) (standing.Standing, error)
}

// Manager of a node's sandboxes.
type Manager struct {
	cfg     *config.Config
	store   *store.Store
	runtime Runtime
	execs   *execs.Manager
	network Network
	rules   Rules
	tunnels Tunnels
	limits  record.Limits
	boot    string
	events  *events.Hub
	denials *denials.Watcher
	metrics *metrics.Metrics
	groups  cgroup.Reader
	quota   *quota.Ledger
	pool    *pool.Pool // nil: none
	binds   binds.Stage
	gpus    GPUs
	// allotments are who has which of them.
	allotments *gpus.Allotments
	changed    func(link string)
	held       func(context.Context) ([]string, error)
	saved
	// explaining holds a token while an answer is looked for: one at a time.
	explaining chan struct{}
	log        *slog.Logger

	// ctx is the daemon's: keepers outlive the requests that made them.
	ctx context.Context
	wg  sync.WaitGroup

	// halfMade is what Recover found; it does not change afterwards.
	halfMade []halfMade
	settled  chan struct{} // closed when the node was brought in line once

	mu      sync.Mutex // guards what follows
	keepers map[sandbox.ID]*keeper
	links   map[string]*keeper  // the same, by link
	unclean map[sandbox.ID]bool // ended, with a teardown that failed
	gone    metrics.Tunnels     // bytes of sandboxes that have ended
	// holdables are the requests that slots are made for, with a checkpoint loaded.
	holdables map[record.Held]record.Request
}

// Parts are what a Manager works with.
type Parts struct {
	Config  *config.Config
	Store   *store.Store
	Runtime Runtime
	Network Network
	Rules   Rules
	Tunnels Tunnels
	Boot    string // names the machine's present run
	Events  *events.Hub
	Denials *denials.Watcher
	Metrics *metrics.Metrics
	Quota   *quota.Ledger
	GPUs    GPUs
	// Pool has sandboxes that wait; nil: none do.
	Pool *pool.Pool
	// Changed, if set, is called with a sandbox's link after its policy has changed, and
	// after a lease has ended: whatever was admitted by the policy before is to be judged
	// anew.
	Changed func(link string)
	// Held lists the sandboxes of which the node holds anything at all.
	Held func(context.Context) ([]string, error)
	Log  *slog.Logger
}

// New returns a Manager whose goroutines end with ctx. Recover comes next.
func New(ctx context.Context, p Parts) (*Manager, error) {
	ceiling, err := p.Config.Network.PolicyCeiling()
	if err != nil {
		return nil, err
	}
	groups, err := cgroup.NewReader(p.Config.CgroupParent())
	if err != nil {
		return nil, err
	}
	saved, err := openSaved(p.Config, p.Quota)
	if err != nil {
		return nil, err
	}
	return &Manager{
		groups: groups,
		execs: execs.New(ctx, execs.Parts{
			Runtime: p.Runtime, Folder: p.Config.JournalDir, Spare: p.Config.ExecsDir(), JournalBytes: p.Config.Sandboxes.ExecJournalBytes,
			Quota: p.Quota, Figures: p.Metrics, Boot: p.Boot, Log: p.Log,
		}),
		cfg: p.Config, store: p.Store, runtime: p.Runtime, network: p.Network, rules: p.Rules, tunnels: p.Tunnels, boot: p.Boot,
		events: p.Events, denials: p.Denials, metrics: p.Metrics, quota: p.Quota, pool: p.Pool, changed: p.Changed, held: p.Held, log: p.Log,
		limits: record.Limits{
			Timeout:    time.Duration(p.Config.Sandboxes.Timeout),
			MaxTimeout: time.Duration(p.Config.Sandboxes.MaxTimeout),
			Resources: record.Resources{
				CPU: p.Config.Sandboxes.CPU, MemoryMiB: p.Config.Sandboxes.MemoryMiB,
				PIDs: p.Config.Sandboxes.PIDs, DiskMiB: p.Config.Sandboxes.DiskMiB,
			},
			Ceiling: ceiling, GPUCapabilities: p.Config.GPU.Capabilities,
		},
		gpus:       p.GPUs,
		allotments: gpus.NewAllotments(p.Config.GPU.Shared),
		binds:      binds.Stage{Dir: p.Config.BindsDir(), Roots: p.Config.Mounts.Roots},
		saved:      saved,
		explaining: make(chan struct{}, 1),

		ctx:     ctx,
		settled: make(chan struct{}),
		keepers: map[sandbox.ID]*keeper{},
		links:   map[string]*keeper{},
		unclean: map[sandbox.ID]bool{},

		holdables: map[record.Held]record.Request{},
	}, nil
}

// Close waits for the keepers after ctx has ended. Sandboxes go on.
func (m *Manager) Close() {
	m.wg.Wait()
	m.execs.Close()
}

// Running counts the sandboxes that run or are being made.
func (m *Manager) Running() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.keepers)
}
