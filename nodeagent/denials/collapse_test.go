package denials

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// heard is a sink: what was passed on, as text.
type heard struct{ lines []string }

func (h *heard) take(d Denial) {
	h.lines = append(h.lines, fmt.Sprintf("%s %s %s %s:%d %q x%d", d.Link, d.Reason, d.ProtocolName(), d.Dst, d.DstPort, d.Name, d.Count))
}

func newWatcher() (*Watcher, *heard, map[Reason]int) {
	h, counted := &heard{}, map[Reason]int{}
	w := New(Config{Sink: h.take, Count: func(r Reason) { counted[r]++ }, Log: slog.New(slog.DiscardHandler)})
	return w, h, counted
}

func packet(link string, reason Reason, dst string, source uint16) Denial {
	to := netip.MustParseAddrPort(dst)
	return Denial{At: time.Now(), Link: link, Reason: reason, Count: 1,
		Flow: Flow{Protocol: protocolTCP, Src: netip.MustParseAddr("10.88.0.2"), Dst: to.Addr(), SrcPort: source, DstPort: to.Port()}}
}

func TestWhatIsAlikeIsOne(t *testing.T) {
	w, h, counted := newWatcher()
	for i := range 5 {
		w.take(packet("a", Policy, "203.0.113.9:443", uint16(i)))
	}
	w.take(packet("b", Policy, "203.0.113.9:443", 1))
	w.take(packet("a", Never, "203.0.113.9:443", 1))
	w.flush()
	w.flush()
	w.take(packet("a", Policy, "203.0.113.9:443", 9))
	want := []string{
		`a policy tcp 203.0.113.9:443 "" x1`, `b policy tcp 203.0.113.9:443 "" x1`, `a never tcp 203.0.113.9:443 "" x1`,
		`a policy tcp 203.0.113.9:443 "" x4`, `a policy tcp 203.0.113.9:443 "" x1`,
	}
	if diff := cmp.Diff(want, h.lines); diff != "" {
		t.Errorf("passed on (-want +got):\n%s", diff)
	}
	if counted[Policy] != 7 || counted[Never] != 1 {
		t.Errorf("counted %v", counted)
	}
	if diff := cmp.Diff(map[Reason]uint64{Policy: 6, Never: 1}, w.Counts("a")); diff != "" {
		t.Errorf("counts of a (-want +got):\n%s", diff)
	}
	w.Forget("a")
	if got := w.Counts("a"); len(got) != 0 {
		t.Errorf("counts of a link that was forgotten: %v", got)
	}
}

// A sandbox that tries everything costs a bounded number of events and no memory.
func TestAFloodIsBounded(t *testing.T) {
	w, h, counted := newWatcher()
	const all = 100_000
	for i := range all {
		dst := netip.AddrFrom4([4]byte{203, byte(i >> 16), byte(i >> 8), byte(i)})
		w.take(packet("a", Policy, netip.AddrPortFrom(dst, 80).String(), 1))
	}
	w.take(packet("b", Policy, "203.0.113.9:443", 1)) // a neighbour is heard all the same
	w.flush()
	if len(h.lines) != maxApart+2 {
		t.Fatalf("%d events, want %d", len(h.lines), maxApart+2)
	}
	if want := fmt.Sprintf(`a more  invalid IP:0 "" x%d`, all-maxApart); h.lines[maxApart+1] != want {
		t.Errorf("%s, want %s", h.lines[maxApart+1], want)
	}
	if counted[Policy] != all+1 {
		t.Errorf("counted %v", counted)
	}
	if len(w.recent) != 0 {
		t.Errorf("%d windows are kept", len(w.recent))
	}
}

func TestManyLinksAreBounded(t *testing.T) {
	w, h, _ := newWatcher()
	for i := range maxCounted + 100 {
		w.take(packet(fmt.Sprint(i), Policy, "203.0.113.9:443", 1))
	}
	if len(h.lines) != maxLinks || len(w.recent) != maxLinks || len(w.counts) != maxCounted {
		t.Errorf("%d events, %d windows, %d counts", len(h.lines), len(w.recent), len(w.counts))
	}
}

func TestWindowsEndByThemselves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, h, _ := newWatcher()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); w.collapse(ctx) }()
		for range 3 {
			w.take(packet("a", Policy, "203.0.113.9:443", 1))
		}
		time.Sleep(window + time.Millisecond)
		synctest.Wait()
		want := []string{`a policy tcp 203.0.113.9:443 "" x1`, `a policy tcp 203.0.113.9:443 "" x2`}
		if diff := cmp.Diff(want, h.lines); diff != "" {
			t.Errorf("after a window (-want +got):\n%s", diff)
		}
		cancel()
		<-done
	})
}

func TestNames(t *testing.T) {
	w, h, counted := newWatcher()
	addr := netip.MustParseAddr("203.0.113.9")
	w.Names().Learn("a", addr, "web.example.com")
	w.take(packet("a", Policy, "203.0.113.9:443", 1))
	w.take(packet("b", Policy, "203.0.113.9:443", 1))
	w.Denied("a", "dns", "evil.example.net", netip.AddrPort{})
	w.Denied("a", "sni", "other\n\x1b[2J"+strings.Repeat("x", 1000), netip.MustParseAddrPort("203.0.113.9:443"))
	w.Denied("a", "of-a-later-version", "x", netip.AddrPort{})
	want := []string{
		`a policy tcp 203.0.113.9:443 "web.example.com" x1`, `b policy tcp 203.0.113.9:443 "" x1`,
		`a dns  invalid IP:0 "evil.example.net" x1`,
		`a sni tcp 203.0.113.9:443 "other??[2J` + strings.Repeat("x", maxName-10) + `" x1`,
		`a other  invalid IP:0 "x" x1`,
	}
	if diff := cmp.Diff(want, h.lines); diff != "" {
		t.Errorf("passed on (-want +got):\n%s", diff)
	}
	if counted[Other] != 1 {
		t.Errorf("counted %v", counted)
	}
}

func TestNamesAreBounded(t *testing.T) {
	n := newNames()
	now := time.Unix(0, 0)
	n.now = func() time.Time { return now }
	at := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{203, 0, byte(i >> 8), byte(i)}) }
	for i := range maxNamesOfOne + 1 {
		n.Learn("a", at(i), fmt.Sprint("n", i))
	}
	n.Learn("a", at(5), "again") // takes no second place
	if got := []string{n.Of("a", at(0)), n.Of("a", at(1)), n.Of("a", at(5)), n.Of("a", at(maxNamesOfOne))}; !cmp.Equal(got, []string{"", "n1", "again", "n512"}) {
		t.Errorf("names %q", got)
	}
	for i := range maxNamedLinks + 10 {
		n.Learn(fmt.Sprint(i), at(0), "x")
	}
	if len(n.links) != maxNamedLinks {
		t.Errorf("%d links are remembered", len(n.links))
	}
	n.Learn("b", at(0), "x")
	now = now.Add(keepNames + 1)
	if got := n.Of("b", at(0)); got != "" {
		t.Errorf("an hour later it is still %q", got)
	}
	n.Learn("c", at(0), "x")
	n.forget("c")
	if got := n.Of("c", at(0)); got != "" {
		t.Errorf("forgotten, it is still %q", got)
	}
}
