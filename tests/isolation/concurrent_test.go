package isolation

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"brig/internal/netns"
)

// TestConcurrentAdds: the first ADDs of a node come all at once; one makes the node's
// network, and nobody shares an address.
func TestConcurrentAdds(t *testing.T) {
	w := newWorld(t, "")
	var all []*sandbox
	for i := range 12 {
		all = append(all, w.bare(fmt.Sprint("c", i)))
	}
	var group errgroup.Group
	for _, s := range all {
		group.Go(func() error {
			_, err := w.cni(t.Context(), "ADD", s.id, netns.Path(s.ns), nil)
			return err
		})
	}
	w.must(group.Wait())
	var bound []string
	for _, b := range w.bindings() {
		bound = append(bound, b)
	}
	if slices.Sort(bound); len(slices.Compact(bound)) != len(all) {
		t.Errorf("%d identities for %d sandboxes: %v", len(bound), len(all), bound)
	}
	for _, s := range all {
		group.Go(func() error {
			_, err := w.cni(t.Context(), "DEL", s.id, netns.Path(s.ns), nil)
			return err
		})
	}
	w.must(group.Wait())
	w.nothingAttached()
}

// TestTwoNodesAtOnce: nodes side by side that begin together pick different pools and
// links, and a sandbox of one does not reach a sandbox of the other.
func TestTwoNodesAtOnce(t *testing.T) {
	one := newWorld(t, "[network]\nallow_private = [\"10.0.0.0/8\"]\n")
	two := one.neighbour("[network]\nallow_private = [\"10.0.0.0/8\"]\n")
	a, b := one.bare("a"), two.bare("b")
	var group errgroup.Group
	for w, s := range map[*world]*sandbox{one: a, two: b} {
		group.Go(func() error {
			_, err := w.cni(t.Context(), "ADD", s.id, netns.Path(s.ns), nil)
			return err
		})
	}
	one.must(group.Wait())
	one.must(a.start(allow("10.0.0.0/8", "203.0.113.0/24")))
	two.must(b.start(allow("10.0.0.0/8", "203.0.113.0/24")))
	addresses := one.addresses(a) + " " + two.addresses(b)
	if addresses != "10.88.0.1 10.89.0.1" && addresses != "10.89.0.1 10.88.0.1" {
		t.Fatalf("addresses %s", addresses)
	}
	one.listen(one.internet, ":80")
	two.listen(b.ns, ":8080")
	b.addr = netip.MustParseAddr(two.addresses(b))
	var got table
	got.row("one to the internet", try(a.ns, serverAddr, 80))
	got.row("two to the internet", try(b.ns, serverAddr, 80))
	got.row("one to two", try(a.ns, b.addr, 8080))
	got.compare(t, `
one to the internet                open
two to the internet                open
one to two                         silence
`)
}

// addresses that the rules bind the sandbox to.
func (w *world) addresses(s *sandbox) string {
	fields := strings.Fields(w.bindings()[s.link()])
	if len(fields) < 2 {
		return "none"
	}
	return fields[1]
}
