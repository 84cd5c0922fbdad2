package isolation

import (
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"brig/internal/netns"
	"brig/internal/netpolicy/nft"
	"brig/internal/transit"
)

// table collects one line for each thing tried, so that a failure shows them all.
type table strings.Builder

func (t *table) row(what, result string) {
	fmt.Fprintf((*strings.Builder)(t), "%-34s %s\n", what, result)
}

func (t *table) compare(test *testing.T, want string) {
	test.Helper()
	if diff := cmp.Diff(strings.TrimPrefix(want, "\n"), (*strings.Builder)(t).String()); diff != "" {
		test.Errorf("-want +got\n%s", diff)
	}
}

// TestReach is who reaches whom, before a policy and under two of them, and again
// after the host's rules were flushed.
func TestReach(t *testing.T) {
	w := newWorld(t, "")
	listed, open := w.sandbox("s1"), w.sandbox("s2")
	for _, l := range []struct{ ns, at string }{
		{w.internet, ":80"}, {w.host, ":22"}, {listed.ns, ":8080"}, {open.ns, ":8080"}, {w.cfg.TransitName(), "0.0.0.0:53"}, {w.cfg.TransitName(), "0.0.0.0:99"},
	} {
		w.listen(l.ns, l.at)
	}
	var got table
	got.row("deny: internet", try(open.ns, serverAddr, 80))
	got.row("deny: resolver", try(open.ns, netip.MustParseAddr(nft.Gateway), 53))
	got.row("deny: host", try(open.ns, hostAddr, 22))
	w.must(listed.start(allow("203.0.113.0/25")))
	w.must(open.start(nil))
	reach(w, &got, listed, open)
	got.row("tunnel: transit dials sandbox", try(w.cfg.TransitName(), listed.addr, 8080))
	got.row("host dials sandbox", try(w.host, listed.addr, 8080))
	got.row("internet dials sandbox", try(w.internet, listed.addr, 8080))
	w.must(w.onHost(func() error { return exec.Command("nft", "flush", "ruleset").Run() }))
	got.row("flushed: host", try(open.ns, hostAddr, 22))
	got.row("flushed: not listed", try(listed.ns, otherAddr, 80))
	got.row("flushed: sibling", try(open.ns, listed.addr, 8080))
	w.must(w.onHost(func() error { return transit.Ensure(t.Context(), &w.cfg) }))
	got.row("repaired: listed", try(listed.ns, serverAddr, 80))
	got.row("repaired: host dials sandbox", try(w.host, listed.addr, 8080))
	got.compare(t, `
deny: internet                     silence
deny: resolver                     refused
deny: host                         refused
listed: listed                     open
listed: not listed                 refused
listed: resolver                   refused
open: internet                     open
open: another address              open
open: resolver                     open
open: host                         refused
open: host's second address        refused
open: host by the link             refused
open: host by loopback             silence
open: transit by the link          refused
open: transit, another port        refused
open: sibling                      refused
open: metadata                     refused
open: private 10/8                 refused
open: private 172.16/12            refused
open: private 192.168/16           refused
open: shared 100.64/10             refused
tunnel: transit dials sandbox      open
host dials sandbox                 silence
internet dials sandbox             silence
flushed: host                      refused
flushed: not listed                refused
flushed: sibling                   refused
repaired: listed                   open
repaired: host dials sandbox       silence
`)
}

func reach(w *world, got *table, listed, open *sandbox) {
	got.row("listed: listed", try(listed.ns, serverAddr, 80))
	got.row("listed: not listed", try(listed.ns, otherAddr, 80))
	got.row("listed: resolver", try(listed.ns, netip.MustParseAddr(nft.Gateway), 53))
	for _, c := range []struct {
		what, to string
		port     uint16
	}{
		{"internet", "203.0.113.2", 80}, {"another address", "8.8.8.8", 80}, {"resolver", nft.Gateway, 53},
		{"host", "203.0.113.1", 22}, {"host's second address", "198.51.100.1", 22}, {"host by the link", "169.254.2.1", 22},
		{"host by loopback", "127.0.0.1", 22}, {"transit by the link", "169.254.2.2", 99}, {"transit, another port", nft.Gateway, 99},
		{"sibling", listed.addr.String(), 8080}, {"metadata", "169.254.169.254", 80}, {"private 10/8", "10.1.2.3", 80},
		{"private 172.16/12", "172.16.0.1", 80}, {"private 192.168/16", "192.168.0.1", 80}, {"shared 100.64/10", "100.100.100.200", 80},
	} {
		result := try(open.ns, netip.MustParseAddr(c.to), c.port)
		if c.what == "host by loopback" && result == "refused" {
			result = "silence" // its own loopback, where nobody listens
		}
		got.row("open: "+c.what, result)
	}
}

// chainsOf lists the policies that have an outbound chain in the kernel.
func chainsOf(t *testing.T, w *world) []string {
	t.Helper()
	var out []byte
	w.must(netns.Do(w.transit(), func() (err error) { out, err = exec.Command("nft", "list", "chains", "inet").Output(); return err }))
	var chains []string
	for _, line := range strings.Split(string(out), "\n") {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "chain out_"); ok && !strings.HasPrefix(name, "open") && !strings.HasPrefix(name, "names") {
			chains = append(chains, strings.TrimSuffix(name, " {"))
		}
	}
	return chains
}

// TestOperatorsWord: what a cloud maps to the node, and what the operator allows.
func TestOperatorsWord(t *testing.T) {
	w := newWorld(t, "[network]\nnode_addresses = [\"192.0.2.7\"]\nallow_private = [\"10.20.0.0/16\"]\n")
	w.listen(w.internet, ":80")
	named, open := w.sandbox("s1"), w.sandbox("s2")
	w.must(named.start(allow("10.20.1.0/24", "192.0.2.0/24")))
	w.must(open.start(nil))
	var got table
	got.row("named private range", try(named.ns, netip.MustParseAddr("10.20.1.5"), 80))
	got.row("permitted, not named", try(named.ns, netip.MustParseAddr("10.20.2.5"), 80))
	got.row("open, permitted, not named", try(open.ns, netip.MustParseAddr("10.20.1.5"), 80))
	got.row("named, and the node's", try(named.ns, netip.MustParseAddr("192.0.2.7"), 80))
	got.row("its neighbour", try(named.ns, netip.MustParseAddr("192.0.2.8"), 80))
	got.compare(t, `
named private range                open
permitted, not named               refused
open, permitted, not named         refused
named, and the node's              refused
its neighbour                      open
`)
	if err := w.sandbox("s3").start(allow("10.21.0.0/16")); err == nil || !strings.Contains(err.Error(), "allow_private") {
		t.Errorf("a private range that is not permitted: %v", err)
	}
}
