package isolation

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"brig/internal/attachment"
	"brig/internal/netns"
)

// doors are listeners that note who came.
type doors struct {
	mu   sync.Mutex
	came []string
}

// open listens for TCP and UDP at addresses of a namespace, with a name for who comes.
func (d *doors) open(w *world, ns, name string, addresses ...string) {
	w.t.Helper()
	for _, address := range addresses {
		var l net.Listener
		var p net.PacketConn
		w.must(netns.Do(netns.Path(ns), func() (err error) {
			if l, err = net.Listen("tcp", address); err != nil {
				return err
			}
			p, err = net.ListenPacket("udp", address)
			return err
		}))
		w.t.Cleanup(func() { l.Close(); p.Close() })
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				d.note(name+" tcp", conn.LocalAddr(), conn.RemoteAddr())
				conn.Close()
			}
		}()
		go func() {
			buffer := make([]byte, 2048)
			for {
				_, from, err := p.ReadFrom(buffer)
				if err != nil {
					return
				}
				d.note(name+" udp", p.LocalAddr(), from)
			}
		}()
	}
}

func (d *doors) note(name string, at, from net.Addr) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.came = append(d.came, fmt.Sprintf("%s at %s from %s", name, at, from))
}

// by tells who came, of those whose line has this part.
func (d *doors) by(part string) (came []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, who := range d.came {
		if strings.Contains(who, part) {
			came = append(came, who)
		}
	}
	return came
}

// forget those who came so.
func (d *doors) forget(prefix string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.came = slices.DeleteFunc(d.came, func(who string) bool { return strings.HasPrefix(who, prefix) })
}

// ports that something could listen on.
var ports = []string{":22", ":53", ":80", ":443", ":2375", ":6443", ":8443", ":10250"}

// TestEveryHostAddress: no service of the host, whatever address and port, none of the
// node's own, no tunnel's listener and no sibling is reached by a sandbox: from inside
// gVisor, and by raw packets of TCP and UDP in its namespace. Who may come does.
func TestEveryHostAddress(t *testing.T) {
	w := newWorld(t, "[network]\nnode_addresses = [\"192.0.2.7\"]\n"+unlimited)
	w.bridge()
	sibling := w.sandbox("sibling")
	w.must(sibling.start(nil))
	d := new(doors)
	d.open(w, w.host, "host", ports...)
	d.open(w, w.host, "tunnel", "127.0.0.1:40000", "203.0.113.1:40001")
	d.open(w, sibling.ns, "sibling", ports...)
	d.open(w, w.cfg.TransitName(), "transit", ":99", "127.0.0.1:98")
	d.open(w, w.internet, "internet", ports...)
	w.localnet(w.host)
	w.localnet(w.cfg.TransitName())
	var lines strings.Builder
	var targets []netip.AddrPort
	for _, a := range append(w.hostAddresses(), sibling.addr, netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("169.254.1.1"), netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("0.0.0.0"), netip.MustParseAddr("255.255.255.255")) {
		for _, port := range append(slices.Clone(ports), ":40000", ":40001", ":99", ":98") {
			to := netip.MustParseAddrPort(a.String() + port)
			targets = append(targets, to)
			fmt.Fprintf(&lines, "udp4 %s x\n", to)
			if port == ":22" || port == ":99" || port == ":40001" { // the rest as raw packets, which wait for nobody
				fmt.Fprintf(&lines, "tcp4 %s x\n", to)
			}
		}
	}
	if len(targets) < 150 {
		t.Fatalf("only %d targets", len(targets))
	}
	t.Run("gvisor", func(t *testing.T) {
		w := w.in(t)
		s := w.sandbox("inside")
		out := w.gvisor(s, guest{args: []string{"dial", "/file"}, file: []byte(lines.String() + "tcp4 203.0.113.2:80 x\n")})
		for _, line := range strings.Split(strings.TrimSpace(out), "\n") {
			where, result, _ := strings.Cut(line, ": ")
			if open := strings.HasPrefix(where, "tcp4") && result == "open"; open != strings.Contains(where, "203.0.113.2:80") {
				t.Errorf("%s is %s", where, result)
			}
		}
	})
	t.Run("raw", func(t *testing.T) {
		w := w.in(t)
		s := w.sandbox("raw")
		w.must(s.start(nil))
		wire := w.capture(w.internet, "eth0")
		var frames [][]byte
		for _, to := range targets {
			for _, proto := range []byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
				f := s.honest(to.Addr(), "x")
				f.proto, f.port = proto, to.Port()
				frames = append(frames, f.encode())
				if to.Addr() == sibling.addr {
					f.dst = attachment.MAC(sibling.addr)
					frames = append(frames, f.encode())
				}
			}
		}
		w.inject(s.ns, "eth0", append(frames, s.honest(serverAddr, "<last>").encode())...)
		if !wire.await("<last>") {
			t.Fatal("the control's packet did not arrive, so nothing is proven")
		}
	})
	w.doorsWork(d)
	for _, who := range append(d.by("from 10.88."), d.by("from 127.")...) {
		t.Errorf("reached: %s", who)
	}
	for _, who := range d.by("from 203.0.113.1") {
		if !strings.HasPrefix(who, "internet tcp at 203.0.113.2:80") {
			t.Errorf("reached, by the node's address: %s", who)
		}
	}
}

// TestEveryHostAddress6: the same by IPv6, with what is of every link.
func TestEveryHostAddress6(t *testing.T) {
	w := newWorld(t, "[network]\nnode_addresses = [\"2001:db8:77::7\"]\n"+unlimited)
	w.wire6()
	sibling, self := w.sandbox("sibling"), w.sandbox("self")
	w.has6(self)
	w.must(sibling.start(nil))
	w.must(self.start(nil))
	d := new(doors)
	d.open(w, w.host, "host", ports...)
	d.open(w, sibling.ns, "sibling", ports...)
	d.open(w, w.cfg.TransitName(), "transit", ":99")
	d.open(w, w.internet, "internet", ports...)
	wire := w.capture(w.internet, "eth0")
	targets := append(w.localAddresses6(), hostAddr6, sibling.addr6, netip.MustParseAddr("2001:db8:99::1"), netip.MustParseAddr("2001:db8:77::7"),
		netip.MustParseAddr("::1"), netip.MustParseAddr("fe80::1"), netip.MustParseAddr("ff02::1"), netip.MustParseAddr("::ffff:203.0.113.1"))
	var frames [][]byte
	var lines strings.Builder
	for _, a := range targets {
		for _, port := range append(slices.Clone(ports), ":99") {
			to := netip.MustParseAddrPort("[" + a.String() + "]" + port)
			for _, proto := range []byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
				f := self.honest(a, "x")
				f.proto, f.port = proto, to.Port()
				frames = append(frames, f.encode())
			}
			zone := ""
			if a.IsLinkLocalUnicast() || a.IsMulticast() {
				zone = "%eth0"
			}
			fmt.Fprintf(&lines, "dgram6 [%s%s]%s x\ntcp6 [%s%s]%s x\n", a, zone, port, a, zone, port)
		}
	}
	w.inject(self.ns, "eth0", append(frames, self.honest(serverAddr6, "<last>").encode())...)
	if !wire.await("<last>") {
		t.Fatal("the control's packet did not arrive, so nothing is proven")
	}
	out := w.gvisor(w.sandbox("inside"), guest{args: []string{"dial", "/file"}, file: []byte(lines.String() + "tcp6 [2001:db8:113::2]:80 x\n")})
	for _, line := range strings.Split(strings.TrimSpace(out), "\n") {
		where, result, _ := strings.Cut(line, ": ")
		if open := strings.HasPrefix(where, "tcp6") && result == "open"; open != strings.Contains(where, "2001:db8:113::2]:80") {
			t.Errorf("%s is %s", where, result)
		}
	}
	if try(w.internet, hostAddr6, 22) != "open" {
		t.Fatal("the listeners of the host are not there, so nothing is proven")
	}
	for _, who := range d.by("") {
		if !strings.HasPrefix(who, "internet tcp at [2001:db8:113::2]:80") && !strings.HasPrefix(who, "host tcp at [2001:db8:113::1]:22 from [2001:db8:113:") {
			t.Errorf("reached: %s", who)
		}
	}
}

// localAddresses6 are the link-local addresses of all links of host and transit.
func (w *world) localAddresses6() (all []netip.Addr) {
	w.t.Helper()
	for _, ns := range []string{w.host, w.cfg.TransitName()} {
		w.must(netns.Do(netns.Path(ns), func() error {
			data, err := os.ReadFile("/proc/thread-self/net/if_inet6")
			for _, line := range strings.Split(string(data), "\n") {
				if digits, _, _ := strings.Cut(line, " "); strings.HasPrefix(digits, "fe80") {
					raw, failed := hex.DecodeString(digits)
					err = errors.Join(err, failed)
					all = append(all, netip.AddrFrom16([16]byte(raw)))
				}
			}
			return err
		}))
	}
	if len(all) < 3 {
		w.t.Fatalf("host and transit have only the link-local addresses %v", all)
	}
	return all
}

// doorsWork shows that doors notice: who may come does, through the same listeners, after
// all that came before.
func (w *world) doorsWork(d *doors) {
	w.t.Helper()
	for _, c := range []struct{ ns, to string }{{w.internet, "203.0.113.1:22"}, {w.host, "127.0.0.1:40000"}} {
		w.must(netns.Do(netns.Path(c.ns), func() error {
			conn, err := net.Dial("tcp4", c.to)
			if err == nil {
				_, err = conn.Read(make([]byte, 1)) // its end: it was noted
				conn.Close()
			}
			if err != nil && err.Error() != "EOF" {
				return err
			}
			return nil
		}))
	}
	if len(d.by("host tcp at 203.0.113.1:22 from 203.0.113.2")) != 1 || len(d.by("tunnel tcp at 127.0.0.1:40000")) < 1 {
		w.t.Fatalf("the listeners do not notice who comes: %v", d.by(""))
	}
	d.forget("tunnel tcp at 127.0.0.1:40000 from 127.0.0.1")
}

// localnet lets packets to 127.0.0.0/8 come from the wire, as some software wants it.
func (w *world) localnet(ns string) {
	w.t.Helper()
	w.must(netns.Do(netns.Path(ns), func() error {
		settings, err := os.ReadDir("/proc/sys/net/ipv4/conf")
		for _, s := range settings {
			if err == nil {
				err = os.WriteFile("/proc/sys/net/ipv4/conf/"+s.Name()+"/route_localnet", []byte("1"), 0)
			}
		}
		return err
	}))
}

// hostAddresses are all that the host has, and the broadcast addresses of its networks.
func (w *world) hostAddresses() (all []netip.Addr) {
	w.t.Helper()
	out, err := exec.Command("ip", "-n", w.host, "-j", "-4", "addr").Output()
	w.must(err)
	var links []struct {
		AddrInfo []struct{ Local, Broadcast string } `json:"addr_info"`
	}
	w.must(json.Unmarshal(out, &links))
	for _, l := range links {
		for _, a := range l.AddrInfo {
			for _, text := range []string{a.Local, a.Broadcast} {
				if text != "" {
					all = append(all, netip.MustParseAddr(text))
				}
			}
		}
	}
	for _, text := range []string{"203.0.113.255", "172.17.255.255", "169.254.2.3", "10.88.255.255"} {
		all = append(all, netip.MustParseAddr(text))
	}
	slices.SortFunc(all, netip.Addr.Compare)
	return slices.Compact(all)
}
