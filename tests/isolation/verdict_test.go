package isolation

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"brig/internal/netns"
	"brig/internal/netpolicy"
)

// TestVerdicts: the kernel decides for every packet as the reference in package
// netpolicy does, for lists of 3,000 ranges, for the open policy, and at the edges
// of every kind of range.
func TestVerdicts(t *testing.T) {
	w := newWorld(t, "[network.limits]\nconnections = 0\nnew_connections = 0\n")
	random := rand.New(rand.NewPCG(1, 2)) // the same packets every time
	var long []string
	for range 3000 {
		prefix, _ := netip.AddrFrom4([4]byte{byte(1 + random.IntN(223)), byte(random.IntN(256)), byte(random.IntN(256)), byte(random.IntN(256))}).Prefix(12 + random.IntN(21))
		if _, err := netpolicy.Compile(netpolicy.Spec{CIDRAllowlist: &[]string{prefix.String()}}, netpolicy.Ceiling{}); err == nil {
			long = append(long, prefix.String())
		}
	}
	for name, list := range map[string]*[]string{
		"open": nil, "list": &long, "empty": {}, "everything": {"0.0.0.0/0"}, "overlapping": {"8.0.0.0/8", "8.8.0.0/16", "9.0.0.0/8", "8.8.8.8/32"},
	} {
		t.Run(name, func(t *testing.T) {
			spec := netpolicy.Spec{CIDRAllowlist: list}
			policy, err := netpolicy.Compile(spec, netpolicy.Ceiling{})
			w.must(err)
			s := w.sandbox(fmt.Sprintf("v%d", random.Uint32()))
			w.must(s.start(spec.Annotations()))
			destinations := destinations(random, policy)
			want := map[netip.Addr]bool{}
			for _, d := range destinations {
				want[d] = policy.Verdict(netpolicy.Packet{Dst: d}) && d != hostAddr
			}
			got := w.arrivals(s, destinations)
			wrong := 0
			for _, d := range destinations {
				if got[d] != want[d] {
					if wrong++; wrong < 10 {
						t.Errorf("%s: arrived %t, the reference says %t", d, got[d], want[d])
					}
				}
			}
			t.Logf("%d destinations, %d arrived, %d wrong", len(destinations), len(got), wrong)
		})
	}
}

// destinations are random addresses, and the edges of the policy's and the never-list's ranges.
func destinations(random *rand.Rand, policy netpolicy.Policy) []netip.Addr {
	all := []netip.Addr{hostAddr, serverAddr}
	ranges := append(policy.Ranges(), netpolicy.Never()...)
	random.Shuffle(len(ranges), func(i, j int) { ranges[i], ranges[j] = ranges[j], ranges[i] })
	for _, r := range ranges[:min(len(ranges), 800)] {
		all = append(all, r.From, r.To, r.From.Prev(), r.To.Next())
	}
	for range 2000 {
		all = append(all, netip.AddrFrom4([4]byte{byte(random.IntN(256)), byte(random.IntN(256)), byte(random.IntN(256)), byte(random.IntN(256))}))
	}
	all = slices.DeleteFunc(all, func(a netip.Addr) bool { return !a.Is4() })
	slices.SortFunc(all, netip.Addr.Compare)
	return slices.Compact(all)
}

// arrivals sends one datagram to each address and tells which the internet received.
func (w *world) arrivals(s *sandbox, to []netip.Addr) map[netip.Addr]bool {
	w.t.Helper()
	var server *net.UDPConn
	w.must(netns.Do(netns.Path(w.internet), func() (err error) {
		server, err = net.ListenUDP("udp4", &net.UDPAddr{Port: 9})
		return err
	}))
	w.must(server.SetReadBuffer(8 << 20))
	got := map[netip.Addr]bool{}
	var mu sync.Mutex
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		buffer := make([]byte, 64)
		for {
			n, err := server.Read(buffer)
			if err != nil {
				return
			}
			if a, err := netip.ParseAddr(string(buffer[:n])); err == nil {
				mu.Lock()
				got[a] = true
				mu.Unlock()
			}
		}
	}()
	var frames [][]byte
	for _, a := range to {
		frames = append(frames, s.honest(a, a.String()).encode())
	}
	w.inject(s.ns, "eth0", frames...)
	time.Sleep(100 * time.Millisecond) // what is under way arrives
	server.Close()
	<-ended
	return got
}
