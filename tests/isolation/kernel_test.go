package isolation

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"brig/internal/attachment"
	"brig/internal/netns"
	"brig/internal/netpolicy"
	"brig/internal/netpolicy/nft"
	"brig/internal/require"
	"brig/internal/transit"
)

// kernel is the transit rule set in a throwaway namespace, between a namespace with
// two sandboxes' links and one that takes whatever leaves. It judges packets by the
// hundred thousand: nothing is in their way but the rules.
//
// One thread sends and receives, on one processor, so that frames stay in order on
// all their way: once a batch's last frame has arrived, what has not arrived of the
// batch never will. A batch of which the kernel's queue dropped one is sent again.
type kernel struct {
	t                       *testing.T
	sandboxes, inside, away string // namespaces
	rules                   nft.Rules
	base                    nft.Base
	node                    map[netip.Addr]bool
	self, other             nft.Binding // other is open, and sends the last frame of each batch
	fds                     [2]int      // the sandboxes' ends
	out                     int         // where frames arrive
	dropped                 string      // the processor's row in softnet_stat
	generation              uint64      // of the policies
	batches                 uint32
	again                   int // batches sent twice
}

// batch is far below what the kernel queues for a processor, 1000 frames.
const batch = 250

// newKernel makes one. The calling goroutine keeps its thread and its processor until
// the test ends.
func newKernel(t *testing.T) *kernel {
	require.Net(t)
	id := fmt.Sprintf("k%06x", time.Now().UnixNano()&0xffffff)
	k := &kernel{t: t, sandboxes: id + "-box", inside: id + "-in", away: id + "-out", node: map[netip.Addr]bool{}}
	for _, ns := range []string{k.sandboxes, k.inside, k.away} {
		k.must(netns.Create(ns))
		t.Cleanup(func() {
			if err := netns.Delete(ns); err != nil {
				t.Error(err)
			}
		})
	}
	for _, p := range []string{"10.20.0.0/16", "172.16.0.0/12", "100.64.0.0/10", "fd12::/16", "64:ff9b::/96"} {
		k.base.Private = append(k.base.Private, netip.MustParsePrefix(p))
	}
	k.base.Node = addrs("203.0.113.1", "198.51.100.1", "169.254.2.1", "169.254.2.2", "2001:db8:113::1")
	for _, a := range k.base.Node {
		k.node[a] = true
	}
	k.rules = nft.In(netns.Path(k.inside), filepath.Join(t.TempDir(), "policies"))
	k.wire()
	_, err := k.rules.Ensure(k.base, transit.Now())
	k.must(err)
	for _, b := range []nft.Binding{k.self, k.other} {
		k.must(k.rules.Identify(b))
	}
	k.grant(k.other, netpolicy.Open())
	k.pin()
	return k
}

// restore has the rules repaired after they were tampered with.
func (k *kernel) restore() {
	k.t.Helper()
	_, err := k.rules.Ensure(k.base, transit.Now())
	k.must(err)
}

// grant a policy to a link, for good.
func (k *kernel) grant(b nft.Binding, policy netpolicy.Policy) {
	k.t.Helper()
	k.seat(b, func(s *nft.Seat, next nft.Grant) {
		next.Policy = policy
		s.Grant, s.Lease = &next, nil
	})
}

// lease it until a moment, over what it has.
func (k *kernel) lease(b nft.Binding, policy netpolicy.Policy, until time.Duration) {
	k.t.Helper()
	k.seat(b, func(s *nft.Seat, next nft.Grant) {
		next.Policy = policy
		s.Lease = &nft.Lease{Grant: next, Until: until}
	})
}

// seat changes what the rules have of a link.
func (k *kernel) seat(b nft.Binding, change func(*nft.Seat, nft.Grant)) {
	k.t.Helper()
	old, err := k.rules.Book().Get(b.Link)
	k.must(err)
	next := old
	k.generation++
	change(&next, nft.Grant{Generation: k.generation})
	k.must(k.rules.Replace(old, next, transit.Now()))
}

func (k *kernel) must(err error) {
	k.t.Helper()
	if err != nil {
		k.t.Fatal(err)
	}
}

// wire makes the links. Routes and neighbours
// are there for IPv6 too, so that a packet that does not leave was refused by a rule.
func (k *kernel) wire() {
	for i, b := range []*nft.Binding{&k.self, &k.other} {
		addr := netip.AddrFrom4([4]byte{10, 88, 0, byte(i + 1)})
		*b = nft.Binding{Link: fmt.Sprintf("brg%012d", i+1), MAC: attachment.MAC(addr).String(), Addr: addr, Addr6: netip.AddrFrom16([16]byte{0xfd, 0x88, 15: byte(i + 1)})}
		k.ip(k.inside, fmt.Sprintf("link add %s address %s type veth peer name s%d address %s netns %s", b.Link, attachment.GatewayMAC, i, b.MAC, k.sandboxes))
		k.ip(k.inside, "link set "+b.Link+" up")
		k.ip(k.sandboxes, fmt.Sprintf("link set s%d up", i))
	}
	k.ip(k.inside, "link add up0 type veth peer name eth0 netns "+k.away)
	k.ip(k.away, "link set eth0 up")
	for _, args := range []string{
		"link set lo up", "addr add 169.254.1.1/32 dev lo", "addr add 169.254.2.2/30 dev up0", "link set up0 up",
		"neigh add 169.254.2.1 lladdr 02:00:00:00:00:01 dev up0 nud permanent", "route add default via 169.254.2.1",
		"neigh add fe80::1 lladdr 02:00:00:00:00:01 dev up0 nud permanent", "route add default via fe80::1 dev up0",
	} {
		k.ip(k.inside, args)
	}
	k.must(netns.Do(netns.Path(k.inside), func() error {
		return errors.Join(
			os.WriteFile("/proc/sys/net/ipv4/conf/all/forwarding", []byte("1"), 0),
			os.WriteFile("/proc/sys/net/ipv6/conf/all/forwarding", []byte("1"), 0),
			os.WriteFile("/proc/sys/net/ipv4/conf/all/rp_filter", []byte("0"), 0))
	}))
	for _, b := range []nft.Binding{k.self, k.other} {
		k.ip(k.inside, fmt.Sprintf("route add %s/32 dev %s", b.Addr, b.Link))
		k.ip(k.inside, fmt.Sprintf("neigh add %s lladdr %s dev %s nud permanent", b.Addr, b.MAC, b.Link))
		k.ip(k.inside, fmt.Sprintf("route add %s/128 dev %s", b.Addr6, b.Link))
		k.ip(k.inside, fmt.Sprintf("neigh add %s lladdr %s dev %s nud permanent", b.Addr6, b.MAC, b.Link))
	}
	k.fds = [2]int{k.socket(k.sandboxes, "s0"), k.socket(k.sandboxes, "s1")}
	k.out = k.socket(k.away, "eth0")
	k.must(unix.SetsockoptInt(k.out, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 32<<20))
	k.must(unix.SetsockoptTimeval(k.out, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5}))
}

func (k *kernel) ip(ns, args string) {
	k.t.Helper()
	if out, err := exec.CommandContext(k.t.Context(), "ip", append([]string{"-n", ns}, strings.Fields(args)...)...).CombinedOutput(); err != nil {
		k.t.Fatalf("ip -n %s %s: %v: %s", ns, args, err, out)
	}
}

func (k *kernel) socket(ns, link string) int {
	fd, err := packetSocket(ns, link)
	k.must(err)
	k.t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// pin keeps the goroutine on one processor.
func (k *kernel) pin() {
	runtime.LockOSThread()
	var before unix.CPUSet
	k.must(unix.SchedGetaffinity(0, &before))
	var cpu int
	for cpu = 0; !before.IsSet(cpu); cpu++ {
	}
	var one unix.CPUSet
	one.Set(cpu)
	k.must(unix.SchedSetaffinity(0, &one))
	k.dropped = fmt.Sprintf("%08x", cpu)
	k.t.Cleanup(func() {
		if err := unix.SchedSetaffinity(0, &before); err == nil {
			runtime.UnlockOSThread()
		}
	})
}

// queueDrops is how many frames the processor's queue had no room for, since boot.
func (k *kernel) queueDrops() uint64 {
	k.t.Helper()
	data, err := os.ReadFile("/proc/net/softnet_stat")
	k.must(err)
	for _, line := range strings.Split(string(data), "\n") {
		if f := strings.Fields(line); len(f) > 12 && f[12] == k.dropped {
			n, err := strconv.ParseUint(f[1], 16, 64)
			k.must(err)
			return n
		}
	}
	k.t.Fatal("/proc/net/softnet_stat has no row for this processor")
	return 0
}

// ceiling of the policies.
func (k *kernel) ceiling() netpolicy.Ceiling {
	return netpolicy.Ceiling{AllowPrivate: k.base.Private}
}

// bind puts a policy in force for the sandbox under test, and forgets connections.
func (k *kernel) bind(policy netpolicy.Policy) {
	k.t.Helper()
	k.grant(k.self, policy)
	k.forget()
}

// forget empties the connection table, which would be full after some policies.
func (k *kernel) forget() {
	k.must(netns.Do(netns.Path(k.inside), func() error { return netlink.ConntrackTableFlush(netlink.ConntrackTable) }))
}

// tamper changes the live rules.
func (k *kernel) tamper(text string) {
	k.t.Helper()
	k.must(netns.Do(netns.Path(k.inside), func() error {
		cmd := exec.Command("nft", "-f", "-")
		cmd.Stdin = strings.NewReader(text)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("nft: %w: %s\n%s", err, out, text)
		}
		return nil
	}))
}

// trailer ends every frame: a word, the batch and the frame's number in it.
const trailer = 16

func appendTrailer(b []byte, batch, number uint32) []byte {
	b = append(b, "brigtest"...)
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, batch), number)
}

// leaves sends trials and tells, for each, whether it arrived.
func (k *kernel) leaves(trials []trial) []bool {
	k.t.Helper()
	arrived := make([]bool, 0, len(trials))
	for len(trials) > 0 {
		n := min(batch, len(trials))
		before := k.queueDrops()
		got, whole := k.send(trials[:n])
		for tries := 1; !whole || k.queueDrops() != before; tries++ {
			if tries == 20 {
				k.t.Fatal("no batch of frames passes the kernel whole")
			}
			k.again++
			k.forget()
			before = k.queueDrops()
			got, whole = k.send(trials[:n])
		}
		arrived, trials = append(arrived, got...), trials[n:]
	}
	return arrived
}

// send one batch, and read until its last frame is there.
func (k *kernel) send(trials []trial) (arrived []bool, whole bool) {
	k.t.Helper()
	k.batches++
	buffer := make([]byte, 0, 256)
	for i, t := range trials {
		k.write(k.fds[0], appendTrailer(t.encode(buffer), k.batches, uint32(i)))
	}
	last := trial{src: mac(k.other.MAC), from: k.other.Addr, to: serverAddr, proto: unix.IPPROTO_UDP, port: 9}
	k.write(k.fds[1], appendTrailer(last.encode(buffer), k.batches, uint32(len(trials))))
	arrived = make([]bool, len(trials))
	frame := make([]byte, 2048)
	for {
		n, err := unix.Read(k.out, frame)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if errors.Is(err, unix.EAGAIN) {
			return arrived, false
		}
		k.must(err)
		if n < 14+trailer || string(frame[n-trailer:n-8]) != "brigtest" || binary.BigEndian.Uint32(frame[n-8:]) != k.batches {
			continue
		}
		number := binary.BigEndian.Uint32(frame[n-4:])
		if number == uint32(len(trials)) {
			return arrived, true
		}
		arrived[number] = true
	}
}

func (k *kernel) write(fd int, frame []byte) {
	for {
		_, err := unix.Write(fd, frame)
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.ENOBUFS) {
			continue
		}
		k.must(err)
		return
	}
}

func mac(s string) net.HardwareAddr {
	m, err := net.ParseMAC(s)
	if err != nil {
		panic(err)
	}
	return m
}
