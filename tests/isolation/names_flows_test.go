package isolation

import (
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"brig/internal/netns"
)

// TestFlowsUnderFlood: a sandbox that opens connections by name as fast as it can keeps
// no change of its policy from coming into force, and none of them outlives it.
func TestFlowsUnderFlood(t *testing.T) {
	w := newWorld(t, "[network.limits]\nconnections = 0\nnew_connections = 0\n")
	w.listen(w.internet, "203.0.113.2:8443")
	upstream := w.upstream(zone{"a.example.com.": {"a.example.com. 300 IN A 203.0.113.2"}})
	s := w.sandbox("s1")
	s.bind(byName("b.example.com"))
	w.serveNames(upstream)
	w.awaitResolver(s)
	for range 3 {
		s.changeTo(byName("a.example.com:8443"))
		if got := s.ask("169.254.1.1:53", "a.example.com.", dns.TypeA); got != "203.0.113.2" {
			t.Fatal(got)
		}
		flood := s.floodConnections(netip.AddrPortFrom(serverAddr, 8443))
		time.Sleep(50 * time.Millisecond)
		s.changeTo(byName("b.example.com"))
		conns := flood()
		alive := 0
		for _, c := range conns {
			if answers(c) {
				alive++
			}
		}
		if alive > 0 || len(conns) == 0 {
			t.Errorf("of %d connections %d outlived the policy", len(conns), alive)
		}
	}
}

// floodConnections connects until the function that it returns is called, for what was connected.
func (s *sandbox) floodConnections(to netip.AddrPort) func() []net.Conn {
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	for range 4 {
		wg.Go(func() {
			err := netns.Do(netns.Path(s.ns), func() error {
				for {
					select {
					case <-stop:
						return nil
					default:
					}
					if c, err := (&net.Dialer{Timeout: time.Second}).Dial("tcp4", to.String()); err == nil {
						mu.Lock()
						conns = append(conns, c)
						mu.Unlock()
					}
				}
			})
			if err != nil {
				s.w.t.Error(err)
			}
		})
	}
	end := sync.OnceFunc(func() { close(stop); wg.Wait() })
	s.w.t.Cleanup(end)
	return func() []net.Conn { end(); return conns }
}

// answers tells whether a connection still carries bytes, and ends it.
func answers(c net.Conn) bool {
	defer c.Close()
	if c.SetDeadline(time.Now().Add(patience)) != nil {
		return false
	}
	if _, err := c.Write([]byte("x")); err != nil {
		return false
	}
	n, err := c.Read(make([]byte, 1))
	return err == nil && n == 1
}
