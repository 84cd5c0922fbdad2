package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"brig/internal/require"
	"brig/tests/internet"
	"brig/tests/node"
)

// probe is a program for the sandbox that tries to reach addresses, all at once,
// and prints a JSON object from each address to the line that its server sent, or
// to "" if there was none.
const probe = `
import json, socket, sys, threading
out = {}
def tcp(a):
    host, port = a.rsplit(":", 1)
    try:
        s = socket.create_connection((host, int(port)), 1.5)
        out[a] = s.makefile().readline().strip()
    except OSError as e:
        out[a] = ""
ts = [threading.Thread(target=tcp, args=(a,)) for a in sys.argv[1:]]
[t.start() for t in ts]
[t.join() for t in ts]
print(json.dumps(out))
`

// lookup prints the addresses of a name, or nothing.
const lookup = `
import socket, sys
try:
    print(socket.gethostbyname(sys.argv[1]))
except OSError:
    pass
`

// world is a node in a host of its own, with an internet.
type world struct {
	*fixture
	*internet.Internet
	// forbidden are addresses with a server that no sandbox may reach.
	forbidden []string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldWith(t, "")
}

// newWorldWith has more in the node's configuration.
func newWorldWith(t *testing.T, overrides string) *world {
	t.Helper()
	require.Net(t)
	require.Runsc(t)
	in := internet.New(t)
	n := node.Launch(t, node.Options{Netns: in.Host, Overrides: fmt.Sprintf(
		"[network]\ndns = [%q]\nnode_addresses = [%q]\n", internet.NameServer, internet.Mapped) + overrides})
	f := &fixture{Node: n}
	if err := f.serve(internet.Listen(t, in.Host, "127.0.0.1:0")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.registry.Close() })
	w := &world{fixture: f, Internet: in}
	for _, a := range append([]string{internet.HostAddress, internet.HostPublic, internet.Mapped, "169.254.1.1"}, internet.Private...) {
		w.forbidden = append(w.forbidden, a+":80")
	}
	return w
}

// reach probes from a sandbox: what answered, and nothing more.
func (w *world) reach(t *testing.T, id string, addresses ...string) map[string]string {
	t.Helper()
	out := w.Brig(t, append([]string{"exec", id, "--", "python3", "-c", probe}, addresses...)...)
	var got map[string]string
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatalf("%v: %q", err, out)
	}
	maps.DeleteFunc(got, func(_, line string) bool { return line == "" })
	return got
}

// wantReach compares what answered with want, from address to the source that its
// server saw, and with what arrived at any server.
func (w *world) wantReach(t *testing.T, id string, want map[string]string, others ...string) {
	t.Helper()
	w.Arrived()
	addresses := append(slices.Collect(maps.Keys(want)), others...)
	got := w.reach(t, id, addresses...)
	wanted := map[string]string{}
	var arrivals []string
	for address, source := range want {
		line := strings.Split(address, ":")[0] + " " + source
		wanted[address] = line
		arrivals = append(arrivals, line)
	}
	if !maps.Equal(got, wanted) {
		t.Errorf("reached %v, want %v", got, wanted)
	}
	arrived := w.Arrived()
	slices.Sort(arrived)
	slices.Sort(arrivals)
	if !slices.Equal(arrived, arrivals) {
		t.Errorf("at the servers arrived %v, want %v", arrived, arrivals)
	}
}

func address(t *testing.T, n *node.Node, id string) string {
	t.Helper()
	var sb struct{ Address string }
	if err := json.Unmarshal([]byte(n.Brig(t, "inspect", id)), &sb); err != nil {
		t.Fatal(err)
	}
	return sb.Address
}

// TestNetwork tries each policy against a world that has everything.
func TestNetwork(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	sibling := w.Create(t, "--no-egress", w.python, "--", "python3", "-m", "http.server", "80")
	neighbour := address(t, w.Node, sibling) + ":80"
	public, other, secure := internet.Public+":80", internet.PublicToo+":80", internet.PublicToo+":443"
	host := internet.HostAddress

	t.Run("nothing said", func(t *testing.T) {
		id := w.Create(t, w.python)
		w.wantReach(t, id, map[string]string{public: host, other: host, secure: host}, append(w.forbidden, neighbour)...)
		w.Asked()
		if got := w.Brig(t, "exec", id, "--", "python3", "-c", lookup, internet.Name); got != internet.Public+"\n" {
			t.Errorf("%s is %q", internet.Name, got)
		}
		if asked := w.Asked(); !slices.Contains(asked, internet.Name) {
			t.Errorf("the name server was asked %v", asked)
		}
		if got := w.Brig(t, "exec", id, "--", "python3", "-c", lookup, "nobody.example.com"); got != "" {
			t.Errorf("nobody.example.com is %q", got)
		}
		w.unreachable(t, id)
	})
	t.Run("cidr_allowlist", func(t *testing.T) {
		id := w.Create(t, "--cidr-allow", "203.0.113.0/24", w.python)
		w.wantReach(t, id, map[string]string{public: host}, append(w.forbidden, neighbour, other, secure)...)
		w.noDNS(t, id)
	})
	t.Run("two ranges", func(t *testing.T) {
		id := w.Create(t, "--cidr-allow", "9.9.9.9/32", "--cidr-allow", "203.0.113.8/30", w.python)
		w.wantReach(t, id, map[string]string{public: host, other: host}, append(w.forbidden, neighbour, internet.NameServer+":80")...)
	})
	t.Run("everything", func(t *testing.T) {
		id := w.Create(t, "--cidr-allow", "0.0.0.0/0", w.python)
		w.wantReach(t, id, map[string]string{public: host, other: host}, append(w.forbidden, neighbour)...)
	})
	t.Run("empty cidr_allowlist", func(t *testing.T) {
		id := w.Create(t, "--no-egress", "--port", "7/tcp", w.python, "--", "python3", "-c", echo)
		w.wantReach(t, id, nil, append(w.forbidden, neighbour, public, other)...)
		w.noDNS(t, id)
		tun := tunnels(t, w.Node, id)[0]
		eventually(t, 20*time.Second, func() error {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			conn, err := internet.Dial(ctx, w.Host, tun.addr())
			if err != nil {
				return err
			}
			defer conn.Close()
			return ping(conn)
		})
	})
	t.Run("block_network", func(t *testing.T) {
		id := w.Create(t, "--block-network", w.python)
		w.wantReach(t, id, nil, append(w.forbidden, neighbour, public, other)...)
		w.noDNS(t, id)
		const names = "import socket; print(socket.if_nameindex())"
		if got := w.Brig(t, "exec", id, "--", "python3", "-c", names); got != "[(1, 'lo')]\n" {
			t.Errorf("the links of a blocked sandbox: %q", got)
		}
		if got := address(t, w.Node, id); got != "" {
			t.Errorf("a blocked sandbox has the address %s", got)
		}
	})
	t.Run("domain_allowlist", func(t *testing.T) {
		id := w.Create(t, "--domain-allow", internet.Name+":80", "--cidr-allow", internet.PublicToo+"/32", w.python)
		// By its address alone nobody is reached: the name must have been asked for.
		w.wantReach(t, id, map[string]string{other: host}, append(w.forbidden, neighbour, public)...)
		got := w.reach(t, id, internet.Name+":80", "nobody.example.com:80")
		if want := map[string]string{internet.Name + ":80": internet.Public + " " + host}; !maps.Equal(got, want) {
			t.Errorf("reached %v, want %v", got, want)
		}
	})
	t.Run("ctr", func(t *testing.T) { w.ctr(t) })
	t.Run("two nodes on one host", func(t *testing.T) { w.secondNode(t) })
	t.Run("after nft flush ruleset in the host", func(t *testing.T) {
		id := w.Create(t, "--cidr-allow", "203.0.113.0/24", w.python)
		if r := node.Run(t, w.Command(t.Context(), "nft", "flush", "ruleset")); r.Code != 0 {
			t.Fatal(r)
		}
		w.Arrived()
		w.reach(t, id, append(w.forbidden, neighbour, other)...)
		if arrived := w.Arrived(); len(arrived) != 0 {
			t.Errorf("with the host's rules flushed arrived %v", arrived)
		}
	})
}

// secondNode comes and goes beside the first: neither takes from the other what
// both need of the host, and the last one puts it back (see also the census).
func (w *world) secondNode(t *testing.T) {
	forwarding := func() string {
		return node.Run(t, w.Command(t.Context(), "cat", "/proc/sys/net/ipv4/conf/eth0/forwarding")).Stdout
	}
	public := internet.Public + ":80"
	want := map[string]string{public: internet.HostAddress}
	first := w.Create(t, w.python)
	second := &world{Internet: w.Internet, fixture: &fixture{registry: w.registry, python: w.python, Node: node.Launch(t, node.Options{Netns: w.Host})}}
	id := second.Create(t, w.python)
	w.wantReach(t, first, want, address(t, second.Node, id)+":7")
	second.wantReach(t, id, want, address(t, w.Node, first)+":7")
	if err := second.Stop(); err != nil {
		t.Error(err)
	}
	w.wantReach(t, first, want)
	if got := forwarding(); got != "1\n" {
		t.Errorf("the uplink's forwarding is %q while a node lives", got)
	}
}

// TestLastNodeRestoresTheHost: what the uplink had before the first node it has
// again after the last, whichever ends first.
func TestLastNodeRestoresTheHost(t *testing.T) {
	require.Net(t)
	require.Runsc(t)
	in := internet.New(t)
	first := node.Launch(t, node.Options{Netns: in.Host})
	second := node.Launch(t, node.Options{Netns: in.Host})
	forwarding := func() string {
		return node.Run(t, first.Command(t.Context(), "cat", "/proc/sys/net/ipv4/conf/eth0/forwarding")).Stdout
	}
	for _, step := range []struct {
		node *node.Node
		want string
	}{{first, "1\n"}, {second, "0\n"}} {
		if err := step.node.Stop(); err != nil {
			t.Error(err)
		}
		if got := forwarding(); got != step.want {
			t.Errorf("the uplink's forwarding is %q, want %q", got, step.want)
		}
	}
	for _, args := range [][]string{{"nft", "list", "ruleset"}, {"ip", "-o", "link", "show", "type", "veth"}} {
		r := node.Run(t, first.Command(t.Context(), args...))
		if strings.Contains(r.Stdout, "brig") {
			t.Errorf("the host holds: %s", r)
		}
	}
}

func (w *world) noDNS(t *testing.T, id string) {
	t.Helper()
	w.Asked()
	if got := w.Brig(t, "exec", id, "--", "python3", "-c", lookup, internet.Name); got != "" {
		t.Errorf("%s resolves to %q", internet.Name, got)
	}
	if asked := w.Asked(); len(asked) != 0 {
		t.Errorf("the name server was asked %v", asked)
	}
}

// unreachable dials a port that listens in the sandbox from the host and from
// outside, past the tunnels.
func (w *world) unreachable(t *testing.T, id string) {
	t.Helper()
	listener := w.BrigCommand(t.Context(), "exec", id, "--", "python3", "-c", echo)
	if err := listener.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Process.Kill(); _ = listener.Wait() }()
	eventually(t, 20*time.Second, func() error {
		if r := w.Try(t, "exec", id, "--", "sh", "-c", "echo reached | nc -w 2 127.0.0.1 7"); r.Stdout != "reached\n" {
			return fmt.Errorf("the sandbox's own server: %s", r)
		}
		return nil
	})
	ip := address(t, w.Node, id)
	route := node.Run(t, w.Command(t.Context(), "nsenter", "--net="+w.World, "ip", "route", "add", ip+"/32", "via", internet.HostAddress))
	if route.Code != 0 {
		t.Fatal(route)
	}
	for _, from := range []string{w.Host, w.World} {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		conn, err := internet.Dial(ctx, from, ip+":7")
		cancel()
		if err == nil {
			err := ping(conn)
			_ = conn.Close()
			t.Errorf("%s reached a port of the sandbox past the tunnels: echo %v", from, err)
		}
	}
}

// ctr uses the same network from `ctr run --cni`, with and without annotations.
func (w *world) ctr(t *testing.T) {
	importForCtr(t, w.Node)
	// The probe in busybox: every server speaks first.
	reach := func(flags []string, name string) (string, node.Result) {
		script := `for a in "$@"; do nc -w 3 "$a" 80 </dev/null; done; true`
		w.Arrived()
		r := ctrCNI(t, w.Node, flags, name, "sh", "-c", script, "sh", internet.Public, internet.PublicToo, "10.99.0.1", "169.254.169.254")
		return strings.Join(w.Arrived(), "\n"), r
	}
	both := internet.Public + " " + internet.HostAddress + "\n" + internet.PublicToo + " " + internet.HostAddress
	for _, tc := range []struct {
		name        string
		annotations []string
		want        string
	}{
		{"open", nil, both},
		{"listed", []string{"--annotation", "brig/cidr-allowlist=203.0.113.0/24"}, internet.Public + " " + internet.HostAddress},
		{"none", []string{"--annotation", "brig/cidr-allowlist="}, ""},
		{"blocked", []string{"--annotation", "brig/block-network=true"}, ""},
	} {
		if arrived, r := reach(tc.annotations, "cni-"+tc.name); arrived != tc.want || r.Code != 0 {
			t.Errorf("%s: arrived %q, want %q; %s", tc.name, arrived, tc.want, r)
		}
	}
	r := ctrCNI(t, w.Node, []string{"--annotation", "brig/cidr-allowlist=10.0.0.0/8"}, "cni-refused", "true")
	if r.Code == 0 || !strings.Contains(r.Stderr, "10.0.0.0/8") {
		t.Errorf("a private range was accepted: %s", r)
	}
	w.Ctr(t, ctrNamespace, "containers", "rm", "cni-refused")
}
