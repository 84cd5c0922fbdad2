package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"brig/internal/config"
	"brig/internal/netns"
	"brig/internal/require"
	"brig/internal/transit"
	"brig/nodeagent/brig/client"
	"brig/nodeagent/doctor"
	"brig/tests/internet"
	"brig/tests/node"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// doctorReport is doctor net --json.
type doctorReport struct {
	Verdict string `json:"verdict"`
	Cases   []struct {
		Case, Verdict, Detail string
		Tries, Controls       int
	}
}

// with are the names of the cases with a verdict.
func (r doctorReport) with(verdict string) []string {
	names := []string{}
	for _, c := range r.Cases {
		if c.Verdict == verdict {
			names = append(names, c.Case)
		}
	}
	return names
}

// details of a verdict's cases, for failures.
func (r doctorReport) details(verdict string) string {
	var b strings.Builder
	for _, c := range r.Cases {
		if c.Verdict == verdict {
			fmt.Fprintf(&b, "%s: %s\n", c.Case, c.Detail)
		}
	}
	return b.String()
}

// doctorWorld is a node in a host of its own, with a user's sandbox on it.
func doctorWorld(t *testing.T) (*node.Node, *internet.Internet) {
	t.Helper()
	require.Net(t)
	require.Runsc(t)
	in := internet.New(t)
	return node.Launch(t, node.Options{Netns: in.Host, Overrides: fmt.Sprintf(
		"[network]\ndns = [%q]\nnode_addresses = [%q]\n", internet.NameServer, internet.Mapped)}), in
}

func doctorArgs(n *node.Node, more ...string) []string {
	return append([]string{"doctor", "net", "--config", filepath.Join(n.Dir, "config.toml")}, more...)
}

// TestDoctor: on a node in order nothing escapes, everything is judged, it is quick, leaves
// nothing, and does not disturb a user's sandbox, though it has the doctor's tag. Two at
// once take turns.
func TestDoctor(t *testing.T) {
	w := newWorld(t)
	n := w.Node
	users := n.Create(t, "--tag", "brig=doctor", w.busybox)
	begun := time.Now()
	r := n.Try(t, doctorArgs(n, "--json")...)
	var report doctorReport
	if err := json.Unmarshal([]byte(r.Stdout), &report); err != nil {
		t.Fatalf("%v: %v", err, r)
	}
	if r.Code != 0 || report.Verdict != "ok" || len(report.Cases) < 60 {
		t.Errorf("status %d, verdict %s, %d cases\nescaped:\n%snot judged:\n%s",
			r.Code, report.Verdict, len(report.Cases), report.details("escaped"), report.details("not judged"))
	}
	if took := time.Since(begun); took > 20*time.Second {
		t.Errorf("it took %v, want less than 20 s", took)
	}
	for _, c := range report.Cases {
		if c.Verdict == "ok" && (c.Tries == 0 || c.Controls == 0) {
			t.Errorf("%s: ok with %d tries and %d controls", c.Case, c.Tries, c.Controls)
		}
	}
	second := n.BrigCommand(t.Context(), doctorArgs(n, "--quiet")...)
	if err := second.Start(); err != nil {
		t.Fatal(err)
	}
	table := n.Brig(t, doctorArgs(n)...)
	if err := second.Wait(); err != nil {
		t.Errorf("a second run at the same time: %v", err)
	}
	if !strings.Contains(table, "CASE") || !strings.Contains(table, " 0 escaped, 0 not judged") {
		t.Errorf("the table is\n%s", table)
	}
	nothingOfDoctor(t, n)
	if out := n.Brig(t, "exec", users, "--", "echo", "lives"); out != "lives\n" {
		t.Errorf("the user's sandbox says %q", out)
	}
}

// nothingOfDoctor is left, as far as a user sees.
func nothingOfDoctor(t *testing.T, n *node.Node) {
	t.Helper()
	for _, args := range [][]string{{"ls", "--all", "--json"}, {"image", "ls", "--json"}} {
		if out := n.Brig(t, args...); strings.Contains(out, "brig.internal/doctor") {
			t.Errorf("brig %s: %s", strings.Join(args, " "), out)
		}
	}
}

// TestDoctorAfterAKill: what a killed run left, the next one removes.
func TestDoctorAfterAKill(t *testing.T) {
	t.Parallel()
	n, _ := doctorWorld(t)
	killed := n.BrigCommand(t.Context(), doctorArgs(n)...)
	if err := killed.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, 20*time.Second, func() error {
		if out := strings.TrimSpace(n.Brig(t, "ls", "--json")); strings.Count(out, `"running"`) < 2 {
			return errors.New("its sandboxes do not run yet")
		}
		return nil
	})
	// The command may be wrapped: what holds the node is below it.
	if err := killed.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = killed.Wait()
	if out := strings.TrimSpace(n.Brig(t, "ls", "--json")); out == "[]" {
		t.Fatal("the killed run left nothing, so nothing is proven")
	}
	n.Brig(t, doctorArgs(n)...)
	nothingOfDoctor(t, n)
}

// TestDoctorElsewhere: on nodes that are set up in other ways nothing escapes either, and
// everything is judged.
func TestDoctorElsewhere(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, overrides string
		ipv6            bool
		notHere         int
	}{
		{name: "the operator narrows all policies", overrides: "[network.ceiling]\ncidr_allowlist = [\"198.51.100.0/24\"]\n", notHere: 5},
		{name: "IPv6", ipv6: true},
		{name: "no resolver upstream, tunnels on all addresses", overrides: "[network]\ndns = [\"203.0.113.200\"]\n[tunnels]\nbind = \"0.0.0.0\"\n", notHere: 5},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			require.Net(t)
			require.Runsc(t)
			in := internet.New(t)
			if tc.ipv6 {
				dualStack(t, in)
			}
			n := node.Launch(t, node.Options{Netns: in.Host, Overrides: tc.overrides})
			r := n.Try(t, doctorArgs(n, "--json")...)
			var report doctorReport
			if err := json.Unmarshal([]byte(r.Stdout), &report); err != nil {
				t.Fatalf("%v: %v", err, r)
			}
			if r.Code != 0 || report.Verdict != "ok" || len(report.with("not applicable")) != tc.notHere {
				t.Errorf("status %d, verdict %s, not applicable: %q\nescaped:\n%snot judged:\n%s",
					r.Code, report.Verdict, report.with("not applicable"), report.details("escaped"), report.details("not judged"))
			}
		})
	}
}

// dualStack gives host and world IPv6, and the host a default route.
func dualStack(t *testing.T, in *internet.Internet) {
	t.Helper()
	for _, line := range []string{
		in.Host + " address add 2001:db8:f::2/64 dev eth0 nodad", in.World + " address add 2001:db8:f::1/64 dev eth0 nodad",
		in.Host + " -6 route add default via 2001:db8:f::1",
	} {
		ns, args, _ := strings.Cut(line, " ")
		if out, err := exec.CommandContext(t.Context(), "nsenter", append([]string{"--net=" + ns, "ip"}, strings.Fields(args)...)...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", line, err, out)
		}
	}
}

// TestDoctorNeedsANode and root.
func TestDoctorNeedsANode(t *testing.T) {
	t.Parallel()
	n := use(t)
	missing := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(missing, []byte("run_dir = \"/run/brig-nowhere\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := n.Try(t, "doctor", "net", "--config", missing)
	if want := "brig: /run/brig-nowhere does not exist: no node runs by this configuration\n"; r.Code != 1 || r.Stderr != want {
		t.Errorf("%v\nwant status 1 and %q", r, want)
	}
	cmd := n.BrigCommand(t.Context(), doctorArgs(n.Node)...)
	cmd.Args = append([]string{"setpriv", "--reuid=65534", "--clear-groups", "--"}, cmd.Args...)
	cmd.Path, _ = exec.LookPath("setpriv")
	if r := node.Run(t, cmd); r.Code != 1 || !strings.Contains(r.Stderr, "run it as root") {
		t.Errorf("as nobody: %v", r)
	}
}

// hole is a way in which a node could be weak, and the cases that must see it.
type hole struct {
	name string
	// open makes it; commands run in the transit namespace, or with "host" before
	// them in the host's.
	open func(doctor.Made) []string
	want []string // exactly these, of those that do not look at a block
	// atLeast: others may see it, too.
	atLeast bool
	noBlock bool
	// copies: whatever a sandbox sends is copied to the node's link, as a bridge would.
	copies bool
}

const (
	markHole = ` comment "hole"`
	foreign  = "203.0.113.130" // of the refused range, as the doctor forges it
)

var holes = []hole{
	{name: "transit forwards everything", atLeast: true,
		open: func(doctor.Made) []string { return []string{"nft insert rule inet brig forward accept" + markHole} },
		want: []string{"UDP", "QUIC", "TCP", "SCTP", "GRE", "ICMP echo", "before a policy: outside", "metadata", "private 10/8", "sibling: directly",
			"host: UDP", "host: TCP", "DNS: directly", "DNS: over TLS", "from outside"}},
	{name: "a foreign address is accepted",
		open: func(doctor.Made) []string {
			return []string{"nft insert rule inet brig identity ip saddr " + foreign + " accept" + markHole}
		},
		want: []string{"spoofed address: internet"}},
	{name: "a sibling's address is bound",
		open: func(m doctor.Made) []string {
			return []string{fmt.Sprintf("nft add element inet brig bind4 { %s . %s . %s }", m.Open.Link, mac(m.Open), m.List.Addr)}
		},
		want: []string{"spoofed address: sibling"}},
	{name: "identity is not looked at", atLeast: true,
		open: func(doctor.Made) []string { return []string{"nft insert rule inet brig identity accept" + markHole} },
		want: []string{"spoofed address: sibling", "spoofed address: internet", "spoofed MAC: sibling", "spoofed identity, whole", "MAC flood"}},
	{name: "no never-list",
		open: func(doctor.Made) []string { return []string{"nft flush set inet brig never4"} },
		want: []string{"metadata", "private 10/8", "private 172.16/12", "private 192.168/16", "shared 100.64/10", "reserved", "link-local"}, atLeast: true},
	{name: "a policy for whom none was bound",
		open: func(m doctor.Made) []string {
			return []string{fmt.Sprintf("nft add element inet brig egress { %s : goto out_open }", m.Deny.Link)}
		},
		want: []string{"before a policy: outside"}},
	{name: "DNS under a list",
		open: func(m doctor.Made) []string {
			return []string{"nft add element inet brig ask { " + m.List.Link + " : goto ask_resolver }"}
		},
		want: []string{"DNS: resolver under a list"}},
	{name: "the transit namespace takes everything", atLeast: true,
		open: func(doctor.Made) []string { return []string{"nft insert rule inet brig input accept" + markHole} },
		want: []string{"gateway: ports", "DNS: resolver under a list", "DNS: resolver without a policy"}},
	{name: "the host takes everything",
		open: func(doctor.Made) []string {
			return []string{"host nft insert rule inet HOSTTABLE input accept" + markHole}
		},
		want: []string{"second wall: host", "second wall: answers"}},
	{name: "everything is let in",
		open: func(doctor.Made) []string {
			return []string{"nft insert rule inet brig forward iifname up0 accept" + markHole}
		},
		want: []string{"TTL", "from outside"}},
	{name: "frames are copied to the host", copies: true,
		open:    func(doctor.Made) []string { return nil },
		atLeast: true,
		want: []string{"ARP: gratuitous", "ARP: scan", "VLAN tag", "VLAN tag, double", "spanning tree", "LLDP", "frame in a frame", "unknown Ethernet types",
			"IPv6: router advertisement", "IPv6: neighbour discovery", "IPv6: link-local", "IPv6: multicast", "IPv6: mapped IPv4", "IPv6: NAT64",
			"IPv6: local and metadata", "IPv6: spoofed", "IPv6: extension headers", "multicast", "IGMP", "broadcast", "spoofed MAC: group", "spoofed address: nobody",
			"spoofed address: everybody", "spoofed address: gateway", "spoofed address: host", "spoofed MAC: node", "other MACs of the node",
			"ICMP redirect", "ICMP fragmentation needed", "ICMP errors as a channel", "source routing", "IP options", "fragments, tiny", "fragments, oversized",
			"fragments, overlapping", "fragments of two sandboxes", "IP in IP", "IPv6 in IPv4", "ESP", "UDP-Lite", "unknown protocol", "UDP without checksum",
			"TCP without a connection", "host: ping", "host: loopback", "gateway: its MAC, other addresses", "gateway: proxy", "before a policy: inside",
			"sibling: forged reply", "DNS: over HTTPS", "tunnel ports"}},
	{name: "a block that is none", noBlock: true,
		open: func(doctor.Made) []string { return nil },
		want: []string{"flow after a block: out", "flow after a block: in"}},
}

func mac(s doctor.Sandbox) string {
	b := s.Addr.As4()
	return fmt.Sprintf("02:01:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3])
}

// TestDoctorSeesHoles opens one hole after another and looks whether the doctor names
// it. The node would mend itself, and may as soon as the doctor has tried everything.
func TestDoctorSeesHoles(t *testing.T) {
	t.Parallel()
	const nodes = 3 // to be quicker
	for first := range nodes {
		t.Run("node "+itoa(first), func(t *testing.T) {
			t.Parallel()
			n, in := doctorWorld(t)
			for i := first; i < len(holes); i += nodes {
				t.Run(holes[i].name, func(t *testing.T) {
					holes[i].check(t, throughHole(t, n, in, i))
				})
			}
			if r := n.Try(t, doctorArgs(n)...); r.Code != 0 {
				t.Errorf("after the holes: %v", r)
			}
			nothingOfDoctor(t, n)
		})
	}
}

func (h hole) check(t *testing.T, report doctorReport) {
	t.Helper()
	got := report.with("escaped")
	if !h.noBlock {
		got = slices.DeleteFunc(got, func(s string) bool { return strings.HasPrefix(s, "flow after a block") })
	}
	var missed []string
	for _, w := range h.want {
		if !slices.Contains(got, w) {
			missed = append(missed, w)
		}
	}
	if len(missed) > 0 {
		t.Errorf("not seen by %q\nescaped:\n%snot judged:\n%s", missed, report.details("escaped"), report.details("not judged"))
	}
	if h.atLeast {
		return
	}
	slices.Sort(got)
	want := slices.Sorted(slices.Values(h.want))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("escaped (-want +got):\n%s%s", diff, report.details("escaped"))
	}
	if report.Verdict != "escaped" {
		t.Errorf("verdict %s", report.Verdict)
	}
}

// holeRun is what the process that runs the doctor through a hole is told.
type holeRun struct{ Socket, Config, Probe, Table, Result string }

// throughHole runs the doctor in a process of its own, on the node's host, because it
// takes its own network namespace for the host's.
func throughHole(t *testing.T, n *node.Node, in *internet.Internet, i int) doctorReport {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := n.Config()
	if err != nil {
		t.Fatal(err)
	}
	result := filepath.Join(t.TempDir(), "result")
	told, err := json.Marshal(holeRun{n.Socket(), filepath.Join(n.Dir, "config.toml"), filepath.Join(n.Bin, "brig-probe"), cfg.HostTable(), result})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "nsenter", "--net="+in.Host, "--", exe)
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", holeEnv, i), holeEnv+"_RUN="+string(told))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	data, err := os.ReadFile(result)
	if err != nil {
		t.Fatal(err)
	}
	var got doctorReport
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	return got
}

// holeEnv makes this test binary a doctor.
const holeEnv = "BRIG_E2E_HOLE"

func init() {
	var i int
	if _, err := fmt.Sscan(os.Getenv(holeEnv), &i); err != nil {
		return
	}
	if err := runThroughHole(holes[i]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func runThroughHole(h hole) error {
	var run holeRun
	if err := json.Unmarshal([]byte(os.Getenv(holeEnv+"_RUN")), &run); err != nil {
		return err
	}
	cfg, err := config.Load(run.Config)
	if err != nil {
		return err
	}
	release := sync.OnceFunc(func() {})
	defer func() { release() }()
	report, err := doctor.Run(context.Background(), doctor.Options{
		Config: &cfg, Client: client.New(run.Socket), Probe: run.Probe,
		Before: func(m doctor.Made) error {
			// brigd mends what it sees broken, as soon as it gets the lock.
			if release, err = lockNetwork(&cfg); err != nil {
				return err
			}
			for _, line := range h.open(m) {
				if err := onNode(&cfg, strings.ReplaceAll(line, "HOSTTABLE", run.Table)); err != nil {
					return err
				}
			}
			if h.copies {
				return copyFrames(&cfg, m.Open.Link, m.List.Link, m.Deny.Link)
			}
			return nil
		},
		// It comes last, and blocks nothing. What follows needs the lock.
		Block: func(context.Context, string) error {
			release()
			return nil
		},
	})
	if err != nil {
		return err
	}
	if err := onNode(&cfg, "host nft delete table inet "+run.Table); err != nil {
		return err
	}
	if err := transit.Ensure(context.Background(), &cfg); err != nil { // closed again
		return err
	}
	data, err := json.Marshal(report)
	if err != nil {
		return err
	}
	return os.WriteFile(run.Result, data, 0o600)
}

// lockNetwork takes the node's network lock until release is called.
func lockNetwork(cfg *config.Config) (release func(), err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	done, locked, failed := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		failed <- transit.Locked(ctx, cfg, func(context.Context) error {
			close(locked)
			<-done
			return nil
		})
	}()
	select {
	case <-locked:
		return sync.OnceFunc(func() { close(done); <-failed }), nil
	case err := <-failed:
		return func() {}, err
	}
}

// onNode runs a command in the transit namespace or on the host.
func onNode(cfg *config.Config, line string) error {
	run := func() error {
		args := splitCommand(strings.TrimPrefix(line, "host "))
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", line, err, out)
		}
		return nil
	}
	if strings.HasPrefix(line, "host ") {
		return run()
	}
	return netns.Do(transit.Path(cfg), run)
}

// splitCommand at spaces; nft is given its command as one word.
func splitCommand(line string) []string {
	if rest, ok := strings.CutPrefix(line, "nft "); ok {
		return []string{"nft", rest}
	}
	return strings.Fields(line)
}

// copyFrames from links of the transit namespace to the node's link, until the process
// ends.
func copyFrames(cfg *config.Config, links ...string) error {
	return netns.Do(transit.Path(cfg), func() error {
		out, err := rawSocket(transit.UpLink)
		if err != nil {
			return err
		}
		for _, link := range links {
			in, err := rawSocket(link)
			if err != nil {
				return err
			}
			go func() {
				buffer := make([]byte, 1<<16)
				for {
					n, from, err := unix.Recvfrom(in, buffer, 0)
					if l, ok := from.(*unix.SockaddrLinklayer); err == nil && ok && l.Pkttype != unix.PACKET_OUTGOING {
						_, _ = unix.Write(out, buffer[:n])
					}
				}
			}()
		}
		return nil
	})
}

func rawSocket(link string) (int, error) {
	l, err := net.InterfaceByName(link)
	if err != nil {
		return -1, err
	}
	const all = unix.ETH_P_ALL>>8 | unix.ETH_P_ALL&0xff<<8 // network order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, all)
	if err != nil {
		return -1, err
	}
	return fd, unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: l.Index})
}
