// Package isolation tries what a hostile sandbox tries, against the real plugin, the
// real gate and the kernel, in throwaway network namespaces: one plays the host, one
// the internet. The machine's own network is never touched.
//
// The oracle is a capture on the wires and listeners that must not be reached. Every
// attack has a control beside it, the same thing done rightly, so that a test cannot
// pass because nothing worked at all.
package isolation

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"brig/internal/attachment"
	"brig/internal/config"
	"brig/internal/netns"
	"brig/internal/netpolicy"
	"brig/internal/require"
	"brig/internal/transit"
	"brig/shim/gate"
	"brig/tests/census"
)

// plugin is the built brig-cni.
var plugin string

func TestMain(m *testing.M) {
	os.Exit(census.Around(func() int { return run(m) }))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "brig-isolation")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	plugin = filepath.Join(dir, "brig-cni")
	build := exec.Command("go", "build", "-o", plugin, "brig/cni/brig-cni")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build brig-cni: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// The addresses of the world.
var (
	hostAddr   = netip.MustParseAddr("203.0.113.1")
	serverAddr = netip.MustParseAddr("203.0.113.2")
	otherAddr  = netip.MustParseAddr("203.0.113.130")
)

// world is a host with an uplink, and an internet that answers for every address.
type world struct {
	t        *testing.T
	cfg      config.Config
	path     string // of the configuration
	host     string // name of the namespace that plays the host
	internet string
	guest    bool // the host is another world's
}

// newWorld makes one; what a test leaves in it is a failure.
func newWorld(t *testing.T, settings string) *world {
	require.Net(t)
	w := newNode(t, settings)
	w.must(netns.Create(w.host))
	w.must(netns.Create(w.internet))
	w.wire()
	return w
}

// neighbour is a second node on the same host.
func (w *world) neighbour(settings string) *world {
	n := newNode(w.t, settings)
	n.host, n.internet, n.guest = w.host, w.internet, true
	return n
}

// unlimited is for tests that send more in a second than a sandbox may.
const unlimited = "[network.limits]\nconnections = 0\nnew_connections = 0\n"

// in is the world as a subtest sees it: what it makes there goes, and fails, with it.
func (w *world) in(t *testing.T) *world {
	sub := *w
	sub.t = t
	return &sub
}

// newNode is a configuration, with names for the rest.
func newNode(t *testing.T, settings string) *world {
	id := fmt.Sprintf("t%06x", time.Now().UnixNano()&0xffffff)
	w := &world{t: t, path: filepath.Join(t.TempDir(), "config.toml"), host: id + "-host", internet: id + "-inet"}
	toml := fmt.Sprintf("node = %q\nrun_dir = \"/run/brig-%s\"\nstate_dir = %q\n%s", id, id, t.TempDir(), settings)
	w.must(os.WriteFile(w.path, []byte(toml), 0o600))
	var err error
	w.cfg, err = config.Load(w.path)
	w.must(err)
	t.Cleanup(w.end)
	return w
}

// wire connects host and internet. The internet takes every address for its own.
func (w *world) wire() {
	w.ip(w.host, "link add wan type veth peer name eth0 netns "+w.internet)
	for _, args := range []string{"link set lo up", "link set wan up", "addr add 203.0.113.1/24 dev wan", "addr add 198.51.100.1/32 dev lo", "route add default via 203.0.113.2"} {
		w.ip(w.host, args)
	}
	for _, args := range []string{
		"link set lo up", "link set eth0 up", "addr add 203.0.113.2/24 dev eth0", "addr add 203.0.113.130/24 dev eth0",
		// It receives for every address, and answers for these.
		"route add local 0.0.0.0/0 dev lo table 100", "rule add iif eth0 lookup 100 pref 10",
		"route add local 8.8.8.8/32 dev lo table local", "route add local 10.20.0.0/16 dev lo table local", "route add local 192.0.2.0/24 dev lo table local",
		"route add 10.88.0.0/13 via 203.0.113.1", "route add default via 203.0.113.1",
	} {
		w.ip(w.internet, args)
	}
}

func (w *world) ip(ns, args string) {
	w.t.Helper()
	out, err := exec.CommandContext(w.t.Context(), "ip", append([]string{"-n", ns}, strings.Fields(args)...)...).CombinedOutput()
	if err != nil {
		w.t.Fatalf("ip -n %s %s: %v: %s", ns, args, err, out)
	}
}

// end removes the node's network as an uninstall would, and looks for leftovers.
func (w *world) end() {
	if netns.Exists(w.host) {
		if err := w.onHost(func() error { return transit.Remove(context.Background(), &w.cfg) }); err != nil {
			w.t.Error(err)
		}
		if !w.guest {
			w.leftovers()
		}
	}
	if w.guest {
		w.must(os.RemoveAll(w.cfg.RunDir))
		return
	}
	for _, name := range []string{w.host, w.internet} {
		if err := netns.Delete(name); err != nil {
			w.t.Error(err)
		}
	}
	if err := os.RemoveAll(w.cfg.RunDir); err != nil {
		w.t.Error(err)
	}
}

func (w *world) leftovers() {
	if netns.Exists(w.cfg.TransitName()) {
		w.t.Error("the transit namespace is left")
	}
	if _, err := os.Stat(w.cfg.NetworkDir()); !errors.Is(err, os.ErrNotExist) {
		w.t.Errorf("%s is left: %v", w.cfg.NetworkDir(), err)
	}
	err := w.onHost(func() error {
		err := w.leftLinks()
		out, failed := exec.Command("nft", "list", "ruleset").Output()
		if len(bytes.TrimSpace(out)) > 0 {
			w.t.Errorf("rules are left:\n%s", out)
		}
		forwarding, failed2 := os.ReadFile("/proc/sys/net/ipv4/conf/wan/forwarding")
		if strings.TrimSpace(string(forwarding)) != "0" {
			w.t.Errorf("forwarding on the uplink is %q, was 0", forwarding)
		}
		return errors.Join(err, failed, failed2)
	})
	if err != nil {
		w.t.Error(err)
	}
}

// leftLinks waits for the links of deleted namespaces: the kernel removes them in its
// own time.
func (w *world) leftLinks() error {
	var left []string
	for end := time.Now().Add(3 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		links, err := netlink.LinkList()
		if err != nil {
			return err
		}
		left = nil
		for _, l := range links {
			if name := l.Attrs().Name; name != "wan" && l.Type() == "veth" {
				left = append(left, name)
			}
		}
		if len(left) == 0 {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("links are left: %v", left)
		}
	}
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// onHost runs fn where the node's programs run.
func (w *world) onHost(fn func() error) error { return netns.Do(netns.Path(w.host), fn) }

func (w *world) transit() string { return transit.Path(&w.cfg) }

// cni runs the plugin as a runtime would.
func (w *world) cni(ctx context.Context, command, id, ns string, conf map[string]any) ([]byte, error) {
	return w.cniAs(ctx, "eth0", command, id, ns, conf)
}

// cniAs is cni for an interface of another name.
func (w *world) cniAs(ctx context.Context, ifName, command, id, ns string, conf map[string]any) ([]byte, error) {
	input := map[string]any{"cniVersion": "1.1.0", "name": "brig", "type": "brig-cni", "config": w.path}
	for k, v := range conf {
		input[k] = v
	}
	data, err := json.Marshal(input)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, plugin)
	cmd.Stdin = bytes.NewReader(data)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "CNI_COMMAND=" + command, "CNI_CONTAINERID=" + id, "CNI_NETNS=" + ns, "CNI_IFNAME=" + ifName, "CNI_PATH=" + filepath.Dir(plugin)}
	var out []byte
	err = w.onHost(func() (err error) { out, err = cmd.Output(); return err })
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("%w: %s%s", err, out, exit.Stderr)
	}
	return out, err
}

// sandbox is an attached network namespace, with a process in the sentry's place.
type sandbox struct {
	w      *world
	id     string
	ns     string // name of its namespace
	addr   netip.Addr
	addr6  netip.Addr // where the node has IPv6
	sentry *exec.Cmd
}

// sandbox makes a namespace and attaches it: deny.
func (w *world) sandbox(id string) *sandbox {
	w.t.Helper()
	s := w.bare(id)
	out, err := w.cni(w.t.Context(), "ADD", s.id, netns.Path(s.ns), nil)
	w.must(err)
	var result struct {
		IPs []struct{ Address netip.Prefix }
	}
	w.must(json.Unmarshal(out, &result))
	s.addr = result.IPs[0].Address.Addr()
	seat, err := transit.Records(&w.cfg).Get(s.link())
	w.must(err)
	s.addr6 = seat.Addr6
	return s
}

// bare is a namespace with a process and no network.
func (w *world) bare(id string) *sandbox {
	w.t.Helper()
	s := &sandbox{w: w, id: "default-" + id, ns: strings.TrimSuffix(w.host, "host") + id}
	w.must(netns.Create(s.ns))
	w.t.Cleanup(func() {
		if err := netns.Delete(s.ns); err != nil {
			w.t.Error(err)
		}
	})
	s.boot()
	return s
}

// boot puts a process where the sentry would be.
func (s *sandbox) boot() {
	s.sentry = exec.Command("sleep", "600")
	s.w.must(s.do(s.sentry.Start))
	s.w.t.Cleanup(s.kill)
}

func (s *sandbox) kill() { end(s.sentry) }

// end kills a process, which may have ended already, and reaps it.
func end(cmd *exec.Cmd) {
	_ = cmd.Process.Kill()
	_ = cmd.Wait() // "signal: killed"
}

func (s *sandbox) do(fn func() error) error { return netns.Do(netns.Path(s.ns), fn) }

func (s *sandbox) key() attachment.Key {
	return attachment.Key{Network: "brig", ContainerID: s.id, IfName: "eth0"}
}

func (s *sandbox) link() string { return s.key().Link() }

// start asks the gate with these annotations.
func (s *sandbox) start(annotations map[string]string) error {
	return s.w.onHost(func() error {
		block, err := gate.Plan(annotations, &s.w.cfg)
		if err != nil {
			return err
		}
		return gate.Check(s.w.t.Context(), &s.w.cfg, gate.Request{
			Namespace: "default", ID: strings.TrimPrefix(s.id, "default-"), SentryPID: s.sentry.Process.Pid, Annotations: annotations, BlockNetwork: block,
		})
	})
}

// allow is the annotation of a CIDR list.
func allow(cidrs ...string) map[string]string {
	return netpolicy.Spec{CIDRAllowlist: &cidrs}.Annotations()
}

// patience with a packet that is dropped without a word.
const patience = 250 * time.Millisecond

// try connects by TCP from a namespace and tells what came of it.
func try(ns string, to netip.Addr, port uint16) string {
	result := "?"
	err := netns.Do(netns.Path(ns), func() error {
		conn, err := (&net.Dialer{Timeout: patience}).Dial("tcp", netip.AddrPortFrom(to, port).String())
		if err == nil {
			defer conn.Close()
		}
		result = outcome(err)
		return nil
	})
	if err != nil {
		return err.Error()
	}
	return result
}

func outcome(err error) string {
	var timeout net.Error
	switch {
	case err == nil:
		return "open"
	case errors.As(err, &timeout) && timeout.Timeout():
		return "silence"
	case strings.Contains(err.Error(), "refused"):
		return "refused"
	default:
		return err.Error()
	}
}

// listen greets whoever connects, in a namespace, until the test ends.
func (w *world) listen(ns, address string) {
	w.t.Helper()
	var l net.Listener
	w.must(netns.Do(netns.Path(ns), func() (err error) { l, err = net.Listen("tcp", address); return err }))
	w.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go echo(conn)
		}
	}()
}

func echo(conn net.Conn) {
	defer conn.Close()
	buffer := make([]byte, 512)
	for {
		n, err := conn.Read(buffer)
		if err != nil {
			return
		}
		if _, err := conn.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// nft changes the rules of a namespace, as other software of the host would.
func (w *world) nft(ns, text string) {
	w.t.Helper()
	w.must(netns.Do(netns.Path(ns), func() error {
		cmd := exec.Command("nft", "-f", "-")
		cmd.Stdin = strings.NewReader(text)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("nft: %w: %s\n%s", err, out, text)
		}
		return nil
	}))
}
