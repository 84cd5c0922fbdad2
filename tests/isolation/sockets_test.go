package isolation

import (
	"fmt"
	"strings"
	"testing"
)

// attempt is what a program in a sandbox tries by an ordinary socket, or by a raw one.
type attempt struct {
	name, network, address string
	leaves                 bool
}

// TestHostileSockets: the same as seen from a program inside gVisor that has no frames of
// its own to write: it connects, sends datagrams, and sends packets of other protocols
// by raw sockets.
func TestHostileSockets(t *testing.T) {
	w := newWorld(t, "[network]\nnode_addresses = [\"192.0.2.7\"]\n"+unlimited)
	w.bridge()
	w.attempt([]attempt{
		{"control", "udp4", "203.0.113.2:9", true},
		{"ICMP to a listed address", "ip4:1", "203.0.113.2", true},
		{"broadcast", "udp4", "255.255.255.255:67", false},
		{"broadcast of the pool", "udp4", "10.88.255.255:9", false},
		{"broadcast of the uplink", "udp4", "203.0.113.255:9", false},
		{"broadcast of a bridge", "udp4", "172.17.255.255:9", false},
		{"multicast", "udp4", "224.0.0.251:5353", false},
		{"multicast, site", "udp4", "239.255.255.250:1900", false},
		{"IGMP", "ip4:2", "224.0.0.22", false},
		{"IGMP to the host", "ip4:2", "203.0.113.1", false},
		{"SCTP to the host", "ip4:132", "203.0.113.1", false},
		{"SCTP to a sibling", "ip4:132", "SIBLING", false},
		{"GRE to the host", "ip4:47", "203.0.113.1", false},
		{"GRE to an address that is not listed", "ip4:47", "203.0.113.130", false},
		{"IPIP to the host", "ip4:4", "203.0.113.1", false},
		{"IPIP to an address that is not listed", "ip4:4", "203.0.113.130", false},
		{"6in4 to the host", "ip4:41", "203.0.113.1", false},
		{"ESP to an address that is not listed", "ip4:50", "203.0.113.130", false},
		{"ICMP to the host", "ip4:1", "203.0.113.1", false},
		{"ICMP to an address that is not listed", "ip4:1", "203.0.113.130", false},
		{"UDP to an address that is not listed", "udp4", "203.0.113.130:9", false},
		{"UDP to the host", "udp4", "203.0.113.1:9", false},
		{"UDP to the host's link", "udp4", "169.254.2.1:9", false},
		{"UDP to the transit's link", "udp4", "169.254.2.2:9", false},
		{"UDP to a sibling", "udp4", "SIBLING:9", false},
		{"DNS to an address that is not listed", "udp4", "203.0.113.130:53", false},
		{"DNS to the resolver of a list", "udp4", "169.254.1.1:53", false},
		{"DNS over TLS to an address that is not listed", "tcp4", "203.0.113.130:853", false},
		{"metadata", "udp4", "169.254.169.254:80", false},
		{"metadata 168.63.129.16", "udp4", "168.63.129.16:80", false},
		{"metadata 100.100.100.200", "udp4", "100.100.100.200:80", false},
		{"cloud-mapped address of the node", "udp4", "192.0.2.7:9", false},
		{"private 10/8", "udp4", "10.1.2.3:9", false},
		{"private 192.168/16", "udp4", "192.168.1.1:9", false},
		{"shared 100.64/10", "udp4", "100.64.0.1:9", false},
		{"IPv4-mapped IPv6: host", "dgram6", "[::ffff:203.0.113.1]:9", false},
		{"IPv4-mapped IPv6: metadata", "dgram6", "[::ffff:169.254.169.254]:80", false},
		{"NAT64: host", "dgram6", "[64:ff9b::cb00:7101]:9", false},
		{"IPv6, link-local, all nodes", "dgram6", "[ff02::1%eth0]:9", false},
		{"IPv6, link-local, gateway", "dgram6", "[fe80::1%eth0]:9", false},
		{"IPv6, global", "dgram6", "[2001:db8:113::2]:9", false},
		{"IPv6, metadata", "dgram6", "[fd00:ec2::254]:80", false},
		{"ICMPv6, all nodes", "ip6:58", "ff02::1%eth0", false},
		{"control, at last", "udp4", "203.0.113.2:9", true},
	})
}

// TestHostileSockets6: the same where the node has IPv6.
func TestHostileSockets6(t *testing.T) {
	w := newWorld(t, "[network]\nnode_addresses = [\"2001:db8:77::7\"]\n"+unlimited)
	w.wire6()
	w.has6(w.sandbox("has6"))
	w.attempt([]attempt{
		{"control", "udp4", "203.0.113.2:9", true},
		{"control of IPv6", "dgram6", "[2001:db8:113::2]:9", true},
		{"IPv6 to an address that is not listed", "dgram6", "[2001:db8:113:0:ffff::130]:9", false},
		{"IPv6 to the host", "dgram6", "[2001:db8:113::1]:9", false},
		{"IPv6 to the host's second address", "dgram6", "[2001:db8:99::1]:9", false},
		{"IPv6 to the cloud-mapped address of the node", "dgram6", "[2001:db8:77::7]:9", false},
		{"IPv6 to a sibling", "dgram6", "[SIBLING6]:9", false},
		{"IPv6, link-local, all nodes", "dgram6", "[ff02::1%eth0]:9", false},
		{"IPv6, link-local, gateway", "dgram6", "[fe80::1%eth0]:9", false},
		{"IPv6, multicast, site", "dgram6", "[ff05::2%eth0]:9", false},
		{"IPv6, private", "dgram6", "[fd00::1]:9", false},
		{"IPv6, metadata", "dgram6", "[fd00:ec2::254]:80", false},
		{"IPv4-mapped IPv6: host", "dgram6", "[::ffff:203.0.113.1]:9", false},
		{"NAT64: host", "dgram6", "[64:ff9b::cb00:7101]:9", false},
		{"6to4: host", "dgram6", "[2002:cb00:7101::1]:9", false},
		{"Teredo: host", "dgram6", "[2001:0:cb00:7101::1]:9", false},
		{"ICMPv6, all nodes", "ip6:58", "ff02::1%eth0", false},
		{"ICMPv6 to the host", "ip6:58", "2001:db8:113::1", false},
		{"SCTP to the host", "ip6:132", "2001:db8:113::1", false},
		{"IPv6 in IPv6 to the host", "ip6:41", "2001:db8:113::1", false},
		{"control, at last", "dgram6", "[2001:db8:113::2]:9", true},
	})
}

// attempt makes them all from one sandbox that has a list, each a subtest.
func (w *world) attempt(attempts []attempt) {
	sibling, self := w.sandbox("sibling"), w.sandbox("self")
	w.must(sibling.start(nil))
	d := new(doors)
	d.open(w, w.host, "host", ":9", ":80")
	d.open(w, sibling.ns, "sibling", ":9")
	wires := map[string]*capture{
		"host": w.capture(w.host, w.cfg.HostLink()), "internet": w.capture(w.internet, "eth0"), "sibling": w.capture(sibling.ns, "eth0"),
		"transit": w.delivered(w.cfg.TransitName()),
	}
	var lines strings.Builder
	words := strings.NewReplacer("SIBLING6", sibling.addr6.String(), "SIBLING", sibling.addr.String())
	for i, a := range attempts {
		fmt.Fprintf(&lines, "%s %s <socket-%03d>\n", a.network, words.Replace(a.address), i)
	}
	list := wide
	if self.addr6.IsValid() {
		list = wide6
	}
	out := strings.Split(strings.TrimSpace(w.gvisor(self, guest{annotations: list, args: []string{"dial", "/file"}, file: []byte(lines.String())})), "\n")
	if len(out) != len(attempts) || !wires["internet"].await(fmt.Sprintf("<socket-%03d>", len(attempts)-1)) {
		w.t.Fatalf("not all attempts were made, or the last, a control, did not arrive: %q", out)
	}
	for i, a := range attempts {
		w.t.Run(a.name, func(t *testing.T) {
			for place, wire := range wires {
				if seen, want := wire.saw(fmt.Sprintf("<socket-%03d>", i)), a.leaves && (place == "host" || place == "internet"); seen != want {
					t.Errorf("seen by the %s: %t, want %t; the program says %s", place, seen, want, out[i])
				}
			}
			if strings.HasSuffix(out[i], ": open") {
				t.Errorf("a connection was made: %s", out[i])
			}
		})
	}
	for _, who := range d.by("") {
		w.t.Errorf("reached: %s", who)
	}
	for place, wire := range wires {
		if n := wire.count(func(f []byte) bool { return len(f) > 34 && f[12] == 8 && f[13] == 0 && f[23] == 2 }); n > 0 && (place == "host" || place == "internet") {
			w.t.Errorf("%d packets of IGMP are seen by the %s", n, place)
		}
	}
}
