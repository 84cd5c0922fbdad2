// Package internet is a stand-in for a host's network and the internet behind it:
// two network namespaces joined by a veth. A node that runs in Host sees an uplink
// with a default route; World has public, private and metadata addresses, a server
// on each, and a name server. Nothing of it touches the machine's own network.
//
// Every server answers a connection with one line, "<its address> <the peer's>",
// so a client in a sandbox can tell what it reached and as whom, and World keeps
// the same lines, so that a test can tell what arrived.
package internet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"brig/internal/netns"

	"github.com/miekg/dns"
)

// Addresses of the stand-in.
const (
	// HostAddress is the uplink's, what the node's sandboxes are seen as.
	HostAddress = "192.0.2.2"
	// HostPublic is another address of the host.
	HostPublic = "198.51.100.77"
	// Mapped is what a cloud maps to the host: nothing there knows of it.
	Mapped = "203.0.113.99"
	// NameServer answers Name with Public, in World.
	NameServer = "203.0.113.53"
	// Name has the address Public.
	Name = "www.example.com"
	// Public is an ordinary server.
	Public = "203.0.113.10"
	// PublicToo is one in another range.
	PublicToo = "9.9.9.9"

	gateway = "192.0.2.1"
)

// Private are addresses that no sandbox may reach, all of which World has.
var Private = []string{
	"10.99.0.1", "172.16.5.5", "192.168.77.1", "100.64.9.9", "100.100.100.200", "169.254.169.254", "169.254.170.2",
}

// Internet is the two namespaces with their servers.
type Internet struct {
	// Host and World are the paths of the namespaces.
	Host, World string

	mu      sync.Mutex
	arrived []string // guarded by mu
	asked   []string // guarded by mu
}

// New makes one that is removed when t ends.
func New(t testing.TB) *Internet {
	t.Helper()
	suffix := fmt.Sprintf("%08x", rand.Uint32())
	host, world := "e2e-host-"+suffix, "e2e-world-"+suffix
	i := &Internet{Host: netns.Path(host), World: netns.Path(world)}
	for _, name := range []string{host, world} {
		if err := netns.Create(name); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := netns.Delete(name); err != nil {
				t.Error(err)
			}
		})
	}
	for _, line := range i.plan(world) {
		run(t, strings.Fields(line)...)
	}
	i.serve(t)
	return i
}

// plan is the topology, as commands.
func (i *Internet) plan(world string) []string {
	in := func(ns, line string) string { return "nsenter --net=" + ns + " ip " + line }
	plan := []string{
		in(i.Host, "link set lo up"),
		in(i.World, "link set lo up"),
		in(i.Host, "link add eth0 type veth peer name eth0 netns "+world),
		in(i.Host, "address add "+HostAddress+"/24 dev eth0"),
		in(i.Host, "address add "+HostPublic+"/32 dev eth0"),
		in(i.Host, "link set eth0 up"),
		in(i.World, "address add "+gateway+"/24 dev eth0"),
		in(i.World, "link set eth0 up"),
		in(i.Host, "route add default via "+gateway),
		in(i.World, "route add "+HostPublic+"/32 via "+HostAddress),
	}
	for _, a := range append([]string{Public, PublicToo, NameServer, Mapped}, Private...) {
		plan = append(plan, in(i.World, "address add "+a+"/32 dev lo"))
	}
	return plan
}

// Listen opens a TCP listener in the namespace at path.
func Listen(t testing.TB, path, address string) net.Listener {
	t.Helper()
	var listener net.Listener
	err := netns.Do(path, func() (err error) {
		var lc net.ListenConfig
		listener, err = lc.Listen(context.Background(), "tcp4", address)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener
}

// Dial connects from the namespace at path.
func Dial(ctx context.Context, path, address string) (conn net.Conn, err error) {
	err = netns.Do(path, func() (err error) {
		var d net.Dialer
		conn, err = d.DialContext(ctx, "tcp4", address)
		return err
	})
	return conn, err
}

func (i *Internet) serve(t testing.TB) {
	t.Helper()
	for _, port := range []string{"80", "443", "8080"} {
		go i.accept(Listen(t, i.World, "0.0.0.0:"+port))
		go i.accept(Listen(t, i.Host, "0.0.0.0:"+port))
	}
	var packets net.PacketConn
	err := netns.Do(i.World, func() (err error) {
		var lc net.ListenConfig
		packets, err = lc.ListenPacket(context.Background(), "udp4", NameServer+":53")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, server := range []*dns.Server{
		{PacketConn: packets, Handler: dns.HandlerFunc(i.answer)},
		{Listener: Listen(t, i.World, NameServer+":53"), Handler: dns.HandlerFunc(i.answer)},
	} {
		go func() { _ = server.ActivateAndServe() }()
		t.Cleanup(func() { _ = server.Shutdown() })
	}
}

func (i *Internet) accept(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		local, _, _ := net.SplitHostPort(conn.LocalAddr().String())
		remote, _, _ := net.SplitHostPort(conn.RemoteAddr().String())
		line := local + " " + remote
		i.mu.Lock()
		i.arrived = append(i.arrived, line)
		i.mu.Unlock()
		go func() {
			_, _ = io.WriteString(conn, line+"\n")
			_ = conn.Close()
		}()
	}
}

// Arrived returns and forgets what the servers of World and Host were reached by.
func (i *Internet) Arrived() []string {
	i.mu.Lock()
	defer i.mu.Unlock()
	got := i.arrived
	i.arrived = nil
	return got
}

// Asked returns and forgets the names that the name server was asked for.
func (i *Internet) Asked() []string {
	i.mu.Lock()
	defer i.mu.Unlock()
	got := i.asked
	i.asked = nil
	return got
}

func (i *Internet) answer(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg).SetReply(q)
	name, kind := q.Question[0].Name, q.Question[0].Qtype
	i.mu.Lock()
	i.asked = append(i.asked, strings.TrimSuffix(name, "."))
	i.mu.Unlock()
	switch {
	case name == Name+"." && kind == dns.TypeA:
		m.Answer = append(m.Answer, &dns.A{
			Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60}, A: net.ParseIP(Public),
		})
	case name != Name+".":
		m.SetRcode(q, dns.RcodeNameError)
	}
	_ = w.WriteMsg(m)
}

func run(t testing.TB, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v", strings.Join(args, " "), errors.Join(err, errors.New(string(out))))
	}
}
