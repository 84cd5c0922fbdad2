package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"brig/internal/attachment"
	brigv1 "brig/nodeagent/api/brig/v1"
	"brig/tests/internet"
	"brig/tests/node"

	"connectrpc.com/connect"
)

// knock tries addresses again and again, each with a connection of its own, and says
// nothing: what arrives, the servers tell, also while brigd is dead.
const knock = `
import socket, sys, threading, time
def tcp(host):
    while True:
        try:
            s = socket.create_connection((host, 80), 1)
            s.makefile().readline()
            s.close()
        except OSError:
            pass
        time.sleep(.2)
for a in sys.argv[1:]:
    threading.Thread(target=tcp, args=(a,)).start()
`

// pulse keeps one connection to each address, sends a byte ten times a second and says
// of each whether it came back.
const pulse = `
import socket, sys, threading, time
def tcp(host):
    s = socket.create_connection((host, 9000), 5)
    s.settimeout(10)
    while True:
        try:
            s.sendall(b"x")
            if s.recv(1) != b"x":
                raise OSError("closed")
            print(host, "beats", flush=True)
        except OSError as e:
            print(host, "died", type(e).__name__, flush=True)
            return
        time.sleep(.1)
for a in sys.argv[1:]:
    threading.Thread(target=tcp, args=(a,)).start()
`

// sayings are what a command says, a line at a time.
type sayings struct{ c chan string }

func (w *world) follow(t *testing.T, args ...string) sayings {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := w.BrigCommand(ctx, args...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	l := sayings{make(chan string, 4096)}
	go func() {
		defer close(l.c)
		for s := bufio.NewScanner(out); s.Scan(); {
			l.c <- s.Text()
		}
	}()
	t.Cleanup(func() { cancel(); _ = cmd.Wait() })
	return l
}

// until reads on until each of the wanted words was in a line.
func (l sayings) until(t *testing.T, wanted ...string) {
	t.Helper()
	var said []string
	missing := func(word string) bool {
		return !slices.ContainsFunc(said, func(line string) bool { return strings.Contains(line, word) })
	}
	for timeout := time.After(20 * time.Second); ; {
		if !slices.ContainsFunc(wanted, missing) {
			return
		}
		select {
		case line, ok := <-l.c:
			if !ok {
				t.Fatalf("it ended; said %q, wanted %q", said, wanted)
			}
			said = append(said, line)
		case <-timeout:
			t.Fatalf("said %q, wanted %q", said, wanted)
		}
	}
}

// echoServer sends back what it reads, at every address of World.
func (w *world) echoServer(t *testing.T) {
	listener := internet.Listen(t, w.World, "0.0.0.0:9000")
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(conn, conn); _ = conn.Close() }()
		}
	}()
}

// arriving waits until exactly these servers have been knocked at in a second: first
// what was on its way passes, then a second is looked at.
func (w *world) arriving(t *testing.T, patience time.Duration, want ...string) {
	t.Helper()
	eventually(t, patience, func() error {
		w.Arrived()
		time.Sleep(time.Second)
		var got []string
		for _, line := range w.Arrived() {
			got = append(got, strings.Fields(line)[0])
		}
		slices.Sort(got)
		if got = slices.Compact(got); !slices.Equal(got, want) {
			return fmt.Errorf("arrives at %v, want %v", got, want)
		}
		return nil
	})
}

type policyJSON struct {
	Generation uint64
	Bound      bool
	Network    struct {
		Block bool      `json:"block_network"`
		CIDRs *[]string `json:"cidr_allowlist"`
	}
	Lease *struct {
		Until      time.Time
		Generation uint64 `json:"reverts_to_generation"`
	}
	Denials map[string]uint64
}

func (w *world) policy(t *testing.T, id string) (p policyJSON) {
	t.Helper()
	if err := json.Unmarshal([]byte(w.Brig(t, "policy", "get", "--json", id)), &p); err != nil {
		t.Fatal(err)
	}
	return p
}

// explains compares what policy explain says, with its status.
func (w *world) explains(t *testing.T, id, host string, status int, want string) {
	t.Helper()
	if r := w.Try(t, "policy", "explain", id, host); r.Code != status || strings.TrimSpace(r.Stdout) != want {
		t.Errorf("%s\nwant status %d and %q", r, status, want)
	}
}

// events collects what the node says of a sandbox, as seen by root.
func (w *world) events(t *testing.T, id string) <-chan *brigv1.Event {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	stream, err := w.Sandboxes.Events(ctx, connect.NewRequest(&brigv1.EventsRequest{Sandbox: id}))
	if err != nil {
		t.Fatal(err)
	}
	if !stream.Receive() || stream.Msg().GetEvent() != nil {
		t.Fatalf("the first message is %v, %v", stream.Msg(), stream.Err())
	}
	events := make(chan *brigv1.Event, 4096)
	go func() {
		for stream.Receive() {
			events <- stream.Msg().GetEvent()
		}
	}()
	t.Cleanup(func() { cancel(); _ = stream.Close() })
	return events
}

func await(t *testing.T, events <-chan *brigv1.Event, what string, is func(*brigv1.Event) bool) *brigv1.Event {
	t.Helper()
	for timeout := time.After(20 * time.Second); ; {
		select {
		case e := <-events:
			if is(e) {
				return e
			}
		case <-timeout:
			t.Fatalf("no event: %s", what)
		}
	}
}

// TestPolicyChangeAtRunTime changes the policy of a sandbox under its connections.
func TestPolicyChangeAtRunTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.echoServer(t)
	id := w.Create(t, w.python)
	events := w.events(t, id)
	flows := w.follow(t, "exec", id, "--", "python3", "-c", pulse, internet.Public, internet.PublicToo)
	flows.until(t, internet.Public+" beats", internet.PublicToo+" beats")

	if got := w.Brig(t, "policy", "set", "--cidr-allow", "203.0.113.0/24", "--if-generation", "1", id); got != "2\n" {
		t.Errorf("policy set says %q, want the generation 2", got)
	}
	// What is not allowed any more ends at its next packet; what is goes on.
	flows.until(t, internet.PublicToo+" died ConnectionResetError")
	for range 10 {
		flows.until(t, internet.Public+" beats")
	}
	w.wantReach(t, id, map[string]string{internet.Public + ":80": internet.HostAddress}, append(w.forbidden, internet.PublicToo+":80")...)

	await(t, events, "the change", func(e *brigv1.Event) bool { return e.GetPolicyChanged().GetGeneration() == 2 })
	denied := await(t, events, "the denial", func(e *brigv1.Event) bool { return e.GetDenied().GetDestination() == internet.PublicToo })
	if d := denied.GetDenied(); denied.GetSandbox() != id || d.GetReason() != "policy" || d.GetProtocol() != "tcp" || d.GetGeneration() != 2 ||
		d.GetSource() != address(t, w.Node, id) || d.GetDestinationPort() == 0 || d.GetCount() == 0 {
		t.Errorf("the denial: %v", denied)
	}
	p := w.policy(t, id)
	if p.Generation != 2 || !p.Bound || p.Lease != nil || p.Network.CIDRs == nil || !slices.Equal(*p.Network.CIDRs, []string{"203.0.113.0/24"}) ||
		p.Denials["policy"] == 0 {
		t.Errorf("policy get: %+v", p)
	}
	w.explains(t, id, internet.Public+":9000", 0, "allow: entry 203.0.113.0/24 of cidr_allowlist (generation 2)")
	w.explains(t, id, internet.PublicToo+":9000", 1, "deny: default deny: no entry of cidr_allowlist holds it (generation 2)")
	w.explains(t, id, "10.99.0.1", 1, "deny: never-list 10.0.0.0/8 (generation 2)")
	w.explains(t, id, internet.HostAddress+":80", 1, "deny: node's own address (generation 2)")
	w.explains(t, id, internet.Mapped, 1, "deny: node's own address (generation 2)")

	w.refusals(t, id)

	// Deny everything, and back: the interface stays.
	w.Brig(t, "policy", "set", "--block-network", id)
	flows.until(t, internet.Public+" died ConnectionResetError")
	w.wantReach(t, id, nil, internet.Public+":80", internet.PublicToo+":80")
	w.explains(t, id, internet.Public, 1, "deny: block_network (generation 3)")
	w.Brig(t, "policy", "set", "--open", id)
	w.wantReach(t, id, map[string]string{internet.Public + ":80": internet.HostAddress, internet.PublicToo + ":80": internet.HostAddress}, "10.99.0.1:80")
	w.follow(t, "exec", id, "--", "python3", "-c", knock, "10.99.0.1") // until it is told: the kernel tells a few a second
	await(t, events, "a denial of the never-list", func(e *brigv1.Event) bool {
		return e.GetDenied().GetReason() == "never" && e.GetDenied().GetDestination() == "10.99.0.1" && e.GetDenied().GetGeneration() == 4
	})
	w.metrics(t)
	w.tampered(t, id)

	blocked := w.Create(t, "--block-network", w.python)
	if r := w.Try(t, "policy", "set", "--open", blocked); r.Code != 1 || !strings.Contains(r.Stderr, "make a new one") {
		t.Errorf("a network for a sandbox without an interface: %s", r)
	}
}

// refusals leave everything as it is.
func (w *world) refusals(t *testing.T, id string) {
	t.Helper()
	for want, args := range map[string][]string{
		"generation 2 is in force, not 1": {"policy", "set", "--if-generation", "1", "--open", id},
		"Invalid CIDR: not-an-ip/8":       {"policy", "set", "--cidr-allow", "9.9.9.9/32", "--cidr-allow", "not-an-ip/8", id},
		"10.0.0.0/8 is a private":         {"policy", "set", "--cidr-allow", "10.0.0.0/8", id},
		"cidr_allowlist cannot be used":   {"policy", "set", "--block-network", "--cidr-allow", "9.9.9.9/32", id},
		"invalid lease 10ms":              {"policy", "set", "--open", "--for", "10ms", id},
	} {
		if r := w.Try(t, args...); r.Code != 1 || !strings.Contains(r.Stderr, want) || strings.Count(r.Stderr, "\n") != 1 {
			t.Errorf("%s\nwant one line with %q", r, want)
		}
	}
	for _, args := range [][]string{{"policy", "get", id}, {"policy", "set", "--open", id}, {"policy", "explain", id, internet.Public}, {"events", id}} {
		cmd := exec.CommandContext(t.Context(), filepath.Join(w.Bin, "brig"), args...) // who cannot enter the host's namespace
		cmd.Env = w.Env()
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: 0}}
		if r := node.Run(t, cmd); r.Code == 0 || !strings.Contains(r.Stderr, "there is no sandbox") {
			t.Errorf("another's sandbox: %s", r)
		}
	}
	if p := w.policy(t, id); p.Generation != 2 {
		t.Errorf("after what was refused: %+v", p)
	}
	w.wantReach(t, id, map[string]string{internet.Public + ":80": internet.HostAddress}, internet.PublicToo+":80")
}

// metrics are on the socket, for whoever may open it.
func (w *world) metrics(t *testing.T) {
	t.Helper()
	hc := http.Client{Transport: node.Transport(w.Socket(), false)}
	defer hc.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://brig/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := hc.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, figure := range []string{`brig_denied_packets_total{reason="policy"} `, `brig_denials_total{reason="policy"} `, `brig_denials_total{reason="never"} `, `brig_policy_changes_total{result="ok"} `, `brig_policy_changes_total{result="refused"} `} {
		_, rest, found := strings.Cut("\n"+string(body), "\n"+figure)
		if value, _, _ := strings.Cut(rest, "\n"); !found || value == "0" {
			t.Errorf("%s is %q", figure, value)
		}
	}
}

// tampered: what somebody else did to the kernel's rules is mended, and until then said.
func (w *world) tampered(t *testing.T, id string) {
	t.Helper()
	w.explains(t, id, internet.Public, 0, "allow: open policy: any public address (generation 4)")
	cfg, err := w.Config()
	if err != nil {
		t.Fatal(err)
	}
	link := attachment.Key{Network: "brig", ContainerID: id, IfName: "eth0"}.Link()
	del := w.Command(t.Context(), "ip", "netns", "exec", cfg.TransitName(), "nft", "delete", "element", "inet", "brig", "egress", fmt.Sprintf("{ %q }", link))
	if r := node.Run(t, del); r.Code != 0 {
		t.Fatal(r)
	}
	// brigd mends it soon; until then explain says what it finds.
	const mended = "allow: open policy: any public address (generation 4)\n"
	eventually(t, 20*time.Second, func() error {
		r := w.Try(t, "policy", "explain", id, internet.Public)
		if r.Stdout == mended {
			return nil
		}
		if r.Code != 1 || !strings.Contains(r.Stdout, "the kernel's rules are not what is on record") || !strings.Contains(r.Stdout, "egress of "+link) {
			t.Fatalf("with an element gone: %s", r)
		}
		return errors.New(r.Stdout)
	})
	w.Brig(t, "policy", "set", "--cidr-allow", "203.0.113.0/24", id)
	w.explains(t, id, internet.Public, 0, "allow: entry 203.0.113.0/24 of cidr_allowlist (generation 5)")
	w.wantReach(t, id, map[string]string{internet.Public + ":80": internet.HostAddress})
}

// TestLease: a policy for a time ends by itself, though brigd was killed.
func TestLease(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.Create(t, "--cidr-allow", "203.0.113.0/24", w.python, "--", "python3", "-c", knock, internet.Public, internet.PublicToo)
	w.arriving(t, 20*time.Second, internet.Public)

	events := w.events(t, id)
	printed := w.follow(t, "events", id)
	printed.until(t, id+" denied tcp "+internet.PublicToo+":80 (policy, generation 1)")
	if got := w.Brig(t, "policy", "set", "--cidr-allow", "9.9.9.0/24", "--for", "3s", id); got != "2\n" {
		t.Errorf("policy set says %q", got)
	}
	p := w.policy(t, id)
	if p.Generation != 2 || p.Lease == nil || p.Lease.Generation != 1 || time.Until(p.Lease.Until) > 3*time.Second {
		t.Errorf("while it lasts: %+v", p)
	}
	w.arriving(t, 2500*time.Millisecond, internet.PublicToo)
	reverted := await(t, events, "the end of the lease", func(e *brigv1.Event) bool { return e.GetPolicyChanged().GetReverted() })
	if g := reverted.GetPolicyChanged().GetGeneration(); g != 1 {
		t.Errorf("the lease reverts to generation %d", g)
	}
	printed.until(t, id+" policy generation 2 is in force until ", id+" denied tcp "+internet.Public+":80 (policy, generation 2)", id+" policy generation 1 is in force again")
	w.arriving(t, 5*time.Second, internet.Public)
	if p := w.policy(t, id); p.Generation != 1 || p.Lease != nil {
		t.Errorf("after it: %+v", p)
	}

	w.Brig(t, "policy", "set", "--no-egress", "--for", "8s", id)
	if err := w.Kill(); err != nil {
		t.Fatal(err)
	}
	w.arriving(t, 6*time.Second)
	w.arriving(t, 20*time.Second, internet.Public) // nobody but the kernel ended it
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	if p := w.policy(t, id); p.Generation != 1 || p.Lease != nil || !slices.Equal(*p.Network.CIDRs, []string{"203.0.113.0/24"}) {
		t.Errorf("after a restart: %+v", p)
	}
	w.explains(t, id, internet.Public, 0, "allow: entry 203.0.113.0/24 of cidr_allowlist (generation 1)")

	// A brigd that comes back in the midst of a lease knows of it.
	w.Brig(t, "policy", "set", "--open", "--for", "30s", id)
	if err := errors.Join(w.Kill(), w.Start()); err != nil {
		t.Fatal(err)
	}
	if p := w.policy(t, id); p.Generation != 4 || p.Lease == nil || p.Lease.Generation != 1 || p.Network.CIDRs != nil {
		t.Errorf("in the midst of a lease: %+v", p)
	}
	w.arriving(t, 5*time.Second, internet.Public, internet.PublicToo)
	// And a change for good counts on from there.
	if got := w.Brig(t, "policy", "set", "--no-egress", "--if-generation", "4", id); got != "5\n" {
		t.Errorf("policy set says %q", got)
	}
	w.arriving(t, 5*time.Second)
}

// TestTunnelsFollowThePolicy: clients are judged anew, those that are connected too.
func TestTunnelsFollowThePolicy(t *testing.T) {
	t.Parallel()
	n := use(t)
	id := n.Create(t, "--no-egress", "--port", "7/tcp", n.python, "--", "python3", "-c", echo)
	addr := tunnels(t, n.Node, id)[0].addr()
	conn := dialEcho(t, addr, nil)
	n.Brig(t, "policy", "set", "--no-egress", "--inbound-cidr", "127.0.0.0/8", id)
	if err := ping(conn); err != nil {
		t.Errorf("a client that is admitted: %v", err)
	}
	n.Brig(t, "policy", "set", "--no-egress", "--inbound-cidr", "203.0.113.0/24", id)
	if err := ping(conn); err == nil {
		t.Error("a client that is not admitted any more is answered")
	}
	var d net.Dialer
	if again, err := d.DialContext(t.Context(), "tcp4", addr); err == nil {
		if ping(again) == nil {
			t.Error("a new one is answered")
		}
		_ = again.Close()
	}
	n.Brig(t, "policy", "set", "--no-egress", id)
	dialEcho(t, addr, nil)
}

// TestResolvConfFollowsThePolicy in the sandbox that has the file already.
func TestResolvConfFollowsThePolicy(t *testing.T) {
	t.Parallel()
	n := use(t)
	id := n.Create(t, "--no-egress", n.busybox)
	for _, tc := range []struct{ dns, want string }{{"off", "# This sandbox's policy has no DNS.\n"}, {"resolver", "nameserver 169.254.1.1\noptions timeout:3 attempts:2\n"}, {"off", "# This sandbox's policy has no DNS.\n"}} {
		n.Brig(t, "policy", "set", "--no-egress", "--dns", tc.dns, id)
		if got := n.Brig(t, "exec", id, "--", "cat", "/etc/resolv.conf"); got != tc.want {
			t.Errorf("dns %s: resolv.conf is %q, want %q", tc.dns, got, tc.want)
		}
	}
}

// TestManyRangesLive: a list as long as any takes the place of another in one step.
func TestManyRangesLive(t *testing.T) {
	t.Parallel()
	n := use(t)
	id := n.Create(t, n.busybox)
	many := &brigv1.NetworkPolicy{CidrAllowlist: &brigv1.CidrList{}}
	for i := range 100_000 {
		many.CidrAllowlist.Cidrs = append(many.CidrAllowlist.Cidrs, fmt.Sprintf("11.%d.%d.%d/32", i>>15, i>>7&255, i&127<<1))
	}
	began := time.Now()
	set, err := n.Sandboxes.SetNetworkPolicy(t.Context(), connect.NewRequest(&brigv1.SetNetworkPolicyRequest{Sandbox: id, Network: many}))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("100,000 ranges were in force after %v", time.Since(began).Round(time.Millisecond))
	if set.Msg.GetGeneration() != 2 {
		t.Errorf("generation %d", set.Msg.GetGeneration())
	}
	got, err := n.Sandboxes.GetNetworkPolicy(t.Context(), connect.NewRequest(&brigv1.GetNetworkPolicyRequest{Sandbox: id}))
	if err != nil || !slices.Equal(got.Msg.GetNetwork().GetCidrAllowlist().GetCidrs(), many.GetCidrAllowlist().GetCidrs()) {
		t.Errorf("read back: %d ranges, %v", len(got.Msg.GetNetwork().GetCidrAllowlist().GetCidrs()), err)
	}
	for host, want := range map[string]string{"11.3.0.2": "allow: entry 11.3.0.2/32 of cidr_allowlist (generation 2)\n", "11.3.0.3": "deny: default deny: no entry of cidr_allowlist holds it (generation 2)\n"} {
		if r := n.Try(t, "policy", "explain", id, host); r.Stdout != want {
			t.Errorf("%s\nwant %q", r, want)
		}
	}
	many.CidrAllowlist.Cidrs = append(many.CidrAllowlist.Cidrs, "12.0.0.0/32")
	_, err = n.Sandboxes.SetNetworkPolicy(t.Context(), connect.NewRequest(&brigv1.SetNetworkPolicyRequest{Sandbox: id, Network: many}))
	if connect.CodeOf(err) != connect.CodeInvalidArgument {
		t.Errorf("one more: %v", err)
	}
	n.Brig(t, "policy", "set", "--no-egress", id)
}
