// Package config is the node's configuration: one TOML file that brigd, the
// shim and brig-cni all read, so that they never disagree about where things
// are. A missing file at the default path means the defaults; a missing file
// anywhere else, an unknown key or an invalid value is an error, because a
// half-read configuration could open what its author meant to close.
package config

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"

	"brig/internal/netpolicy"
)

// DefaultPath is read when neither a flag nor EnvPath names another.
const DefaultPath = "/etc/brig/config.toml"

// EnvPath names the environment variable that names the file. brigd sets it for
// its own containerd, from which the shim inherits it.
const EnvPath = "BRIG_CONFIG"

// Config of one node. Every path is absolute.
type Config struct {
	// Node names the transit namespace (brig-<node>). Nodes on one machine
	// differ in it. At most 8 of [a-z0-9].
	Node string `toml:"node"`
	// StateDir outlives a reboot: the store, images, journals, the CA.
	StateDir string `toml:"state_dir"`
	// RunDir does not: sockets, locks, runsc's state. At most 40 bytes, since
	// socket paths below it must stay under 108.
	RunDir string `toml:"run_dir"`
	// Socket is where brigd serves its API.
	Socket string `toml:"socket"`

	Runsc      Runsc      `toml:"runsc"`
	Containerd Containerd `toml:"containerd"`
	CNI        CNI        `toml:"cni"`
	Network    Network    `toml:"network"`
	Tunnels    Tunnels    `toml:"tunnels"`
	Sandboxes  Sandboxes  `toml:"sandboxes"`
	Quotas     Quotas     `toml:"quotas"`
	Mounts     Mounts     `toml:"mounts"`
	Retention  Retention  `toml:"retention"`
	Remote     Remote     `toml:"remote"`
	Tracing    Tracing    `toml:"tracing"`
	Doctor     Doctor     `toml:"doctor"`
	GPU        GPU        `toml:"gpu"`
	Pool       Pool       `toml:"pool"`
}

// Runsc says which gVisor to run.
type Runsc struct {
	// Path of the binary; its sidecars are in gvisor-bin beside it.
	Path string `toml:"path"`
	// Platform is systrap or kvm.
	Platform string `toml:"platform"`
	// DebugLog is a directory for runsc's debug logs; empty: none.
	DebugLog string `toml:"debug_log"`
	// AllowedAnnotations are the dev.gvisor.* keys that reach runsc from whoever
	// creates a container. All others are dropped: with them runsc opens files and
	// sockets of the host.
	AllowedAnnotations []string `toml:"allowed_annotations"`
}

// Containerd says which containerd brigd talks to.
type Containerd struct {
	Address string `toml:"address"`
	// Namespace that brigd owns.
	Namespace string `toml:"namespace"`
	// Binary is set when brigd is to start a containerd of its own, detached,
	// if none answers at Address; empty: another unit does.
	Binary string `toml:"binary"`
}

// CNI says where brigd finds plugins and its network.
type CNI struct {
	BinDir  string `toml:"bin_dir"`
	ConfDir string `toml:"conf_dir"`
}

// Network is what the plugin, the gate and the resolver need.
type Network struct {
	// Pool is where sandbox addresses come from; empty: the first free /16 of
	// 10.88.0.0/13, chosen once and kept in RunDir.
	Pool string `toml:"pool"`
	// AllowPrivate lists private ranges that policies may name. They are not
	// thereby allowed.
	AllowPrivate []string `toml:"allow_private"`
	// NodeAddresses are further addresses of this node (those a cloud maps to
	// it), denied to sandboxes like its own.
	NodeAddresses []string `toml:"node_addresses"`
	// Unmanaged says what to do with a sandbox on a network that is not
	// brig's: allow or refuse.
	Unmanaged string `toml:"unmanaged"`
	// DNS lists upstream resolvers as address or address:port; empty: those of
	// the host's resolv.conf.
	DNS []string `toml:"dns"`
	// IPv6 is auto, for sandboxes that have it when the host has a default route
	// of it, or off.
	IPv6 string `toml:"ipv6"`
	// Pool6 is where sandbox addresses of IPv6 come from; empty: a random private
	// /64, chosen once and kept in RunDir.
	Pool6 string `toml:"pool6"`
	// Default is the policy of a sandbox about whose outbound nothing is said;
	// absent: the ceiling, or else open.
	Default *netpolicy.Spec `toml:"default"`
	// Ceiling is the policy that no sandbox's may exceed; absent: none is too wide.
	Ceiling *netpolicy.Spec `toml:"ceiling"`
	Limits  NetworkLimits   `toml:"limits"`
}

// NetworkLimits are what one sandbox may take of the node's network; 0: any amount.
type NetworkLimits struct {
	// Connections at once, whatever their protocol.
	Connections uint32 `toml:"connections"`
	// NewConnections in a second.
	NewConnections uint32 `toml:"new_connections"`
	// Bandwidth outbound, in bytes a second.
	Bandwidth uint64 `toml:"bandwidth"`
}

// Tunnels says where tunnels listen.
type Tunnels struct {
	// Bind is the address listened on.
	Bind string `toml:"bind"`
	// Advertise is the host name or address that clients are told.
	Advertise string `toml:"advertise"`
	// Certificate and Key are PEM files for Advertise, read again when they change;
	// empty: leaves of the node's own CA.
	Certificate string `toml:"certificate"`
	Key         string `toml:"key"`
	// ACME gets the certificates instead; off unless Directory is set.
	ACME ACME `toml:"acme"`
	// Domain, if set, gives every TLS tunnel a host name of its own below it, led by the
	// name that the client shows (SNI) through one port, SharedPort. There ACME
	// authorities are answered, too.
	Domain     string       `toml:"domain"`
	SharedPort uint16       `toml:"shared_port"`
	Limits     TunnelLimits `toml:"limits"`
}

// TunnelLimits are how many connections may be open at once; at least 1 each.
type TunnelLimits struct {
	// Connections of all tunnels. It is lowered to a quarter of the files that brigd may
	// have open.
	Connections uint32 `toml:"connections"`
	// PerSandbox through all of its tunnels.
	PerSandbox uint32 `toml:"per_sandbox"`
	PerTunnel  uint32 `toml:"per_tunnel"`
	// PerSource through one tunnel: an IPv4 address or an IPv6 /64.
	PerSource uint32 `toml:"per_source"`
}

// ACME is where certificates of tunnels come from.
type ACME struct {
	// Directory of the authority, a URL.
	Directory string `toml:"directory"`
	// Email of the account; may be empty.
	Email string `toml:"email"`
	// Root is a PEM file with what the authority's own certificate is checked by;
	// empty: the system's.
	Root string `toml:"root"`
}

// Sandboxes are the defaults and ceilings of a create.
type Sandboxes struct {
	Timeout    Duration `toml:"timeout"`
	MaxTimeout Duration `toml:"max_timeout"`
	// Guest is the folder of the programs that run inside sandboxes: brig-idle and
	// brig-files. Every sandbox of brigd's has it, read-only, as /.brig.
	Guest string `toml:"guest"`
	// JournalBytes bounds each kept output stream of a sandbox's program.
	JournalBytes int64 `toml:"journal_bytes"`
	// ExecJournalBytes bounds each kept output stream of an exec.
	ExecJournalBytes int64 `toml:"exec_journal_bytes"`
	// Resources of a sandbox that does not say; 0: none.
	CPU       float64 `toml:"cpu"`
	MemoryMiB uint64  `toml:"memory_mib"`
	PIDs      uint64  `toml:"pids"`
	DiskMiB   uint64  `toml:"disk_mib"`
}

// Quotas are what one uid may have at once; 0: any amount. Root has none.
type Quotas struct {
	Sandboxes uint32 `toml:"sandboxes"`
	// Execs that run, in all sandboxes.
	Execs uint32 `toml:"execs"`
	// GPUs of running sandboxes.
	GPUs uint32 `toml:"gpus"`
	// Tunnels that are open.
	Tunnels uint32 `toml:"tunnels"`
	// MemoryMiB and CPU (cores) of the limits of running sandboxes; if set, every
	// sandbox needs such a limit.
	MemoryMiB uint64  `toml:"memory_mib"`
	CPU       float64 `toml:"cpu"`
	// Images are checkpoints and snapshots that are kept.
	Images uint32 `toml:"images"`
	// Connections to the API.
	Connections uint32 `toml:"connections"`
}

// Mounts says what of the node sandboxes may be shown.
type Mounts struct {
	// Roots that bind mounts may come from; none: no bind mounts.
	Roots []string `toml:"roots"`
}

// Retention says how long what has ended is kept.
type Retention struct {
	// Ended sandboxes' records and output, from their end on; 0: until they are
	// removed.
	Ended Duration `toml:"ended"`
}

// Remote is the API over TCP, with mutual TLS; off unless Listen is set.
type Remote struct {
	// Listen is an address and port.
	Listen string `toml:"listen"`
	// Certificate, Key and ClientCA are PEM files, read again when they change. Who has a
	// certificate of ClientCA's is served.
	Certificate string `toml:"certificate"`
	Key         string `toml:"key"`
	ClientCA    string `toml:"client_ca"`
	// Principals maps the common name of a client's certificate to the uid whose
	// sandboxes it has. A name that is not here is refused; 0 is refused.
	Principals map[string]uint32 `toml:"principals"`
}

// Tracing sends what OpenTelemetry calls traces.
type Tracing struct {
	// Endpoint of an OTLP collector, as http://host:port or https://host:port; empty: none.
	Endpoint string `toml:"endpoint"`
	// Ratio of creates and execs that are traced, 0 to 1.
	Ratio float64 `toml:"ratio"`
}

// Doctor tries the node's isolation.
type Doctor struct {
	// Every is how often brigd does it by itself; 0: never, else at least a minute.
	Every Duration `toml:"every"`
}

// Duration is a time.Duration written as "5m".
type Duration time.Duration

// UnmarshalText parses what time.ParseDuration accepts.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	*d = Duration(v)
	return err
}

// MarshalText writes it the way UnmarshalText reads it.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// Defaults returns the configuration of an installed node.
func Defaults() Config {
	return Config{
		Node:     "host",
		StateDir: "/var/lib/brig",
		RunDir:   "/run/brig",
		Socket:   "/run/brig/brig.sock",
		Runsc:    Runsc{Path: "/usr/local/libexec/brig/runsc", Platform: "systrap"},
		Containerd: Containerd{
			Address:   "/run/brig/containerd.sock",
			Namespace: "brig",
		},
		CNI: CNI{BinDir: "/usr/local/libexec/brig/cni", ConfDir: "/etc/brig/cni"},
		Network: Network{
			Unmanaged: "allow",
			IPv6:      "auto",
			Limits:    NetworkLimits{Connections: 8192, NewConnections: 1000},
		},
		Tunnels: Tunnels{
			Bind: "127.0.0.1", Advertise: "127.0.0.1",
			Limits: TunnelLimits{Connections: 16384, PerSandbox: 2048, PerTunnel: 1024, PerSource: 512},
		},
		Sandboxes: Sandboxes{
			Timeout:      Duration(5 * time.Minute),
			MaxTimeout:   Duration(24 * time.Hour),
			Guest:        "/usr/local/libexec/brig/guest",
			JournalBytes: 64 << 20,

			ExecJournalBytes: 16 << 20,
		},
		Mounts:    Mounts{Roots: []string{}},
		Quotas:    Quotas{Sandboxes: 1000, Execs: 1000, Tunnels: 1000, Images: 100, Connections: 1000},
		Retention: Retention{Ended: Duration(7 * 24 * time.Hour)},
		Tracing:   Tracing{Ratio: 1},
		Doctor:    Doctor{Every: Duration(time.Hour)},
		GPU: GPU{
			Generator:    "/usr/local/libexec/brig/brig-nvcdi",
			DriverRoot:   "/",
			SpecDirs:     []string{"/etc/cdi", "/var/run/cdi"},
			Publish:      "/var/run/cdi/brig-nvidia.json",
			Capabilities: []string{"compute", "utility"},
			Sandboxes:    "asked",
		},
		Pool: Pool{MaxAge: Duration(time.Hour)},
	}
}

// Path returns explicit, else what EnvPath names, else DefaultPath.
func Path(explicit string) string {
	if explicit != "" {
		return explicit
	}
	if p := os.Getenv(EnvPath); p != "" {
		return p
	}
	return DefaultPath
}

// Load reads the file over the defaults and validates the result.
func Load(path string) (Config, error) {
	c := Defaults()
	data, err := os.ReadFile(path)
	switch {
	case errors.Is(err, os.ErrNotExist) && path == DefaultPath:
		return c, nil
	case err != nil:
		return Config{}, fmt.Errorf("read configuration: %w", err)
	}
	if err := Parse(data, &c); err != nil {
		return Config{}, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// Parse decodes data over c, refusing unknown keys, and validates c.
func Parse(data []byte, c *Config) error {
	dec := toml.NewDecoder(strings.NewReader(string(data)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(c); err != nil {
		var strict *toml.StrictMissingError
		if errors.As(err, &strict) {
			e := strict.Errors[0]
			row, _ := e.Position()
			return fmt.Errorf("unknown key %q in line %d", strings.Join(e.Key(), "."), row)
		}
		return err
	}
	return c.Validate()
}

var (
	nodePattern      = regexp.MustCompile(`^[a-z0-9]{1,8}$`)
	namespacePattern = regexp.MustCompile(`^[A-Za-z0-9]+(?:[-._][A-Za-z0-9]+)*$`)
)

// Validate joins everything that is wrong with c.
func (c *Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !nodePattern.MatchString(c.Node) {
		bad("node %q: use 1 to 8 of [a-z0-9]", c.Node)
	}
	for _, path := range []struct{ key, value string }{
		{"state_dir", c.StateDir}, {"run_dir", c.RunDir}, {"socket", c.Socket},
		{"runsc.path", c.Runsc.Path}, {"containerd.address", c.Containerd.Address},
		{"cni.bin_dir", c.CNI.BinDir}, {"cni.conf_dir", c.CNI.ConfDir}, {"sandboxes.guest", c.Sandboxes.Guest},
	} {
		if !filepath.IsAbs(path.value) || filepath.Clean(path.value) != path.value {
			bad("%s %q: want a clean absolute path", path.key, path.value)
		}
	}
	for _, socket := range []struct{ key, value string }{
		{"socket", c.Socket}, {"containerd.address", c.Containerd.Address},
	} {
		if len(socket.value) > 100 {
			bad("%s %q: longer than 100 bytes, the kernel takes no such socket path", socket.key, socket.value)
		}
	}
	if len(c.RunDir) > 40 {
		bad("run_dir %q: longer than 40 bytes, sockets below it would not fit", c.RunDir)
	}
	if !namespacePattern.MatchString(c.Containerd.Namespace) {
		bad("containerd.namespace %q: invalid", c.Containerd.Namespace)
	}
	if c.Runsc.Platform != "systrap" && c.Runsc.Platform != "kvm" {
		bad("runsc.platform %q: want systrap or kvm", c.Runsc.Platform)
	}
	for _, key := range c.Runsc.AllowedAnnotations {
		if err := checkAnnotation(key); err != nil {
			bad("runsc.allowed_annotations %q: %w", key, err)
		}
	}
	if c.Network.Pool != "" {
		p, err := netip.ParsePrefix(c.Network.Pool)
		if err != nil || !p.Addr().Is4() || p != p.Masked() || p.Bits() > 28 || p.Bits() < 8 {
			bad("network.pool %q: want an IPv4 range between /8 and /28 without host bits", c.Network.Pool)
		}
	}
	for _, s := range c.Network.AllowPrivate {
		if p, err := netip.ParsePrefix(s); err != nil || p != p.Masked() {
			bad("network.allow_private %q: want a CIDR without host bits", s)
		}
	}
	for _, s := range c.Network.NodeAddresses {
		if _, err := netip.ParseAddr(s); err != nil {
			bad("network.node_addresses %q: want an address", s)
		}
	}
	for _, s := range c.Network.DNS {
		_, errAddr := netip.ParseAddr(s)
		_, errPort := netip.ParseAddrPort(s)
		if errAddr != nil && errPort != nil {
			bad("network.dns %q: want an address or address:port", s)
		}
	}
	if c.Network.IPv6 != "auto" && c.Network.IPv6 != "off" {
		bad("network.ipv6 %q: want auto or off", c.Network.IPv6)
	}
	if c.Network.Pool6 != "" {
		p, err := netip.ParsePrefix(c.Network.Pool6)
		if err != nil || !p.Addr().Is6() || p.Addr().Is4In6() || p != p.Masked() || p.Bits() != 64 {
			bad("network.pool6 %q: want an IPv6 /64 without host bits", c.Network.Pool6)
		}
	}
	if _, err := c.Network.PolicyCeiling(); err != nil {
		errs = append(errs, err)
	}
	if c.Network.Unmanaged != "allow" && c.Network.Unmanaged != "refuse" {
		bad("network.unmanaged %q: want allow or refuse", c.Network.Unmanaged)
	}
	if c.Doctor.Every != 0 && c.Doctor.Every < Duration(time.Minute) {
		bad("doctor.every %s: want 0, for never, or at least 1m", time.Duration(c.Doctor.Every))
	}
	return errors.Join(append(errs, c.Sandboxes.validate(), c.Tunnels.validate(), c.Remote.validate(), c.Mounts.validate(),
		c.Retention.validate(), c.Tracing.validate(), c.GPU.validate(), c.Pool.validate())...)
}

// ownAnnotations belong to brig, which accounts for cgroups, root filesystems and
// checkpoints and would lose track of them.
var ownAnnotations = []string{
	"dev.gvisor.spec.cgroup-parent", "dev.gvisor.spec.rootfs.", "dev.gvisor.tar.rootfs.",
	"dev.gvisor.internal.checkpoint.", "dev.gvisor.internal.fscheckpoint.", "dev.gvisor.flag.overlay2",
}

func checkAnnotation(key string) error {
	own := func(prefix string) bool { return strings.HasPrefix(key, prefix) }
	switch {
	case !strings.HasPrefix(key, "dev.gvisor."):
		return errors.New("want a key dev.gvisor.…")
	case slices.ContainsFunc(ownAnnotations, own):
		return errors.New("that is brig's own to decide")
	}
	return nil
}
