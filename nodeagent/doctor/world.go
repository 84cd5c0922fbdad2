package doctor

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"brig/internal/attachment"
	"brig/internal/config"
	"brig/internal/netpolicy"
	"brig/internal/netpolicy/nft"
	"brig/internal/transit"
)

// gateway of every sandbox.
var gateway = netip.MustParseAddr(nft.Gateway)

// maxHosts bounds how many of the node's addresses are tried.
const maxHosts = 8

// choice of documentation ranges: what the list names, and what it does not.
type choice struct {
	yes, no netip.Prefix
}

// choose ranges in which the node has no address of its own.
func choose(cfg *config.Config) (choice, error) {
	hosts, err := hostAddresses(cfg)
	if err != nil {
		return choice{}, err
	}
	for _, third := range [][3]byte{{203, 0, 113}, {198, 51, 100}, {192, 0, 2}} {
		at := func(last byte) netip.Prefix {
			return netip.PrefixFrom(netip.AddrFrom4([4]byte{third[0], third[1], third[2], last}), 28)
		}
		c := choice{yes: at(64), no: at(128)}
		if !slices.ContainsFunc(hosts, func(a netip.Addr) bool { return c.yes.Contains(a) || c.no.Contains(a) }) {
			return c, nil
		}
	}
	return choice{}, errors.New("this node has addresses in every documentation range: there is nowhere to try to escape to")
}

// hostAddresses are the node's IPv4 addresses but loopback, and those that the
// operator adds.
func hostAddresses(cfg *config.Config) ([]netip.Addr, error) {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("list the host's addresses: %w", err)
	}
	var hosts []netip.Addr
	for _, a := range list {
		ip, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		if addr, ok := netip.AddrFromSlice(ip.IP.To4()); ok && !addr.IsLoopback() {
			hosts = append(hosts, addr)
		}
	}
	for _, s := range cfg.Network.NodeAddresses {
		if a, err := netip.ParseAddr(s); err == nil && a.Is4() {
			hosts = append(hosts, a)
		}
	}
	return hosts, nil
}

// world is what a run sees of the node.
type world struct {
	*node
	judge *judge
	choice

	hosts     []netip.Addr // of the node, the link's own first
	broadcast []netip.Addr // of its networks
	hosts6    []netip.Addr // of the node, IPv6, but those of one link
	host, up  end          // the two ends of the node's link
	transitNS string
	ports     []uint16 // TCP ports that something listens on, on the host
	tcp, udp  uint16   // those of the doctor's own listeners there
	inner     uint16   // and in the transit namespace, TCP and UDP
	uplinks   []string
	hostSide  *box // injects as if from the internet
	upSide    *box // injects as if the transit's rules had let it pass

	closers []func()
}

// end of the node's link.
type end struct {
	name string
	mac  net.HardwareAddr
	addr netip.Addr
}

// look finds out about the node, and opens listeners and captures.
func look(n *node) (_ *world, err error) {
	w := &world{node: n, judge: newJudge(), transitNS: transit.Path(n.Config)}
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	if w.choice, err = choose(n.Config); err != nil {
		return nil, err
	}
	if w.host, err = endOf("", n.Config.HostLink()); err != nil {
		return nil, err
	}
	if w.up, err = endOf(w.transitNS, transit.UpLink); err != nil {
		return nil, err
	}
	if err := w.findHosts(); err != nil {
		return nil, err
	}
	w.hostSide = &box{name: "host", link: w.host.name}
	w.upSide = &box{name: "transit", path: w.transitNS, link: w.up.name}
	if err := w.listen(); err != nil {
		return nil, err
	}
	if w.ports, err = listening(); err != nil {
		return nil, err
	}
	return w, w.watch()
}

func endOf(path, link string) (e end, err error) {
	err = within(path, func() error {
		l, err := netlink.LinkByName(link)
		if err != nil {
			return err
		}
		addrs, err := netlink.AddrList(l, netlink.FAMILY_V4)
		if err == nil && len(addrs) == 0 {
			err = errors.New("it has no address")
		}
		if err != nil {
			return err
		}
		addr, _ := netip.AddrFromSlice(addrs[0].IP.To4())
		e = end{name: link, mac: l.Attrs().HardwareAddr, addr: addr}
		return nil
	})
	if err != nil {
		return end{}, fmt.Errorf("look at link %s: %w", link, err)
	}
	return e, nil
}

func (w *world) findHosts() error {
	hosts, err := hostAddresses(w.Config)
	if err != nil {
		return err
	}
	w.hosts = []netip.Addr{w.host.addr}
	for _, a := range hosts {
		if !slices.Contains(w.hosts, a) && len(w.hosts) < maxHosts {
			w.hosts = append(w.hosts, a)
		}
	}
	list, err := netlink.AddrList(nil, unix.AF_INET)
	if err != nil {
		return fmt.Errorf("list the host's addresses: %w", err)
	}
	for _, a := range list {
		addr, ok := netip.AddrFromSlice(a.IP.To4())
		if bits, _ := a.Mask.Size(); ok && bits < 31 && !addr.IsLoopback() && len(w.broadcast) < maxHosts {
			w.broadcast = append(w.broadcast, netpolicy.RangeOf(netip.PrefixFrom(addr, bits)).To)
		}
	}
	if list, err = netlink.AddrList(nil, unix.AF_INET6); err != nil {
		return fmt.Errorf("list the host's addresses: %w", err)
	}
	for _, a := range list {
		if addr, ok := netip.AddrFromSlice(a.IP); ok && addr.IsGlobalUnicast() && len(w.hosts6) < maxHosts {
			w.hosts6 = append(w.hosts6, addr)
		}
	}
	routes, err := netlink.RouteList(nil, unix.AF_INET)
	if err != nil {
		return fmt.Errorf("list the host's routes: %w", err)
	}
	for _, r := range routes {
		if r.LinkIndex == 0 || r.Dst != nil && !r.Dst.IP.IsUnspecified() {
			continue
		}
		l, err := netlink.LinkByIndex(r.LinkIndex)
		if err != nil {
			return fmt.Errorf("look at the link of a route: %w", err)
		}
		if name := l.Attrs().Name; !slices.Contains(w.uplinks, name) && name != w.host.name {
			w.uplinks = append(w.uplinks, name)
		}
	}
	return nil
}

// watch begins the captures.
func (w *world) watch() error {
	own := []netip.Addr{w.open.addr, w.list.addr, w.deny.addr}
	begin := func(path, link, place string, way direction, filter []bpf.Instruction) error {
		c, err := take(path, link, way, filter, func(f []byte) { w.judge.frame(place, f) })
		if err != nil {
			return fmt.Errorf("watch link %s: %w", link, err)
		}
		w.closers = append(w.closers, c.close)
		return nil
	}
	errs := []error{
		begin("", w.host.name, atHost, incoming, ours(own)),
		begin("", w.host.name, atAnswer, outgoing, ours(append(own, w.up.addr))),
	}
	for _, name := range w.uplinks {
		errs = append(errs, begin("", name, atUplink, outgoing, leaving()))
	}
	for _, b := range []*box{w.open, w.list, w.deny} {
		errs = append(errs, begin(b.path, b.link, inbox+b.name, incoming, everything()))
	}
	return errors.Join(errs...)
}

// close ends captures and listeners; sandboxes are the node's to remove.
func (w *world) close() {
	for _, f := range slices.Backward(w.closers) {
		f()
	}
}

// honest is a frame that a sandbox may send: UDP to the gateway's MAC.
func (w *world) honest(from *box, to netip.Addr, payload []byte) frame {
	return frame{
		dst: attachment.GatewayMAC, src: attachment.MAC(from.addr), kind: etherIPv4,
		from: from.addr, to: to, proto: protoUDP, ttl: 64, body: udp(4000, 9, payload),
	}
}

// inbound is a frame that the host would send towards a sandbox.
func (w *world) inbound(from, to netip.Addr, proto byte, body []byte) frame {
	return frame{dst: w.up.mac, src: w.host.mac, kind: etherIPv4, from: from, to: to, proto: proto, ttl: 60, body: body}
}

// at is the nth address of a range.
func at(p netip.Prefix, n int) netip.Addr {
	a := p.Addr()
	for range n {
		a = a.Next()
	}
	return a
}
