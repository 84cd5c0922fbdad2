package gate

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"brig/internal/attachment"
	"brig/internal/config"
	"brig/internal/netns"
	"brig/internal/transit"
)

// namespace of a sentry, held open so that it stays the same one throughout, whatever
// becomes of the process.
type namespace struct {
	*os.File
	inode uint64
	ours  []int // indexes of links that were the node's at the last look
}

func openNamespace(pid int) (*namespace, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return nil, fmt.Errorf("open the sandbox's network namespace: %w", err)
	}
	ns := &namespace{File: f}
	if ns.inode, err = netns.ID(ns.path()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return ns, nil
}

func (n *namespace) path() string { return fmt.Sprintf("/proc/self/fd/%d", n.Fd()) }

// refuseReserved refuses namespaces whose addresses runsc would strip from their
// owner: the host's, the machine's, the node's transit.
func (n *namespace) refuseReserved(cfg *config.Config) error {
	for _, path := range []string{"/proc/thread-self/ns/net", "/proc/1/ns/net"} {
		id, err := netns.ID(path)
		if errors.Is(err, os.ErrPermission) && path == "/proc/1/ns/net" {
			continue // a machine that keeps its init from us, as some containers do
		}
		if err != nil {
			return err
		}
		if id == n.inode {
			return refuse("the sandbox is in the host's network namespace: start it without the host's network (no --net-host, no --network host)")
		}
	}
	if id, err := netns.ID(transit.Path(cfg)); err == nil && id == n.inode {
		return refuse("the sandbox is in the node's transit network namespace: start it in one of its own")
	}
	for _, name := range neighbours(cfg) {
		if id, err := netns.ID(netns.Path(name)); err == nil && id == n.inode {
			return refuse("the sandbox is in the transit network namespace %s of another node: start it in one of its own", name)
		}
	}
	return nil
}

// neighbours are the names of the transit namespaces of other nodes on this machine:
// what is named like one and has the link that leads to its host.
func neighbours(cfg *config.Config) (names []string) {
	paths, _ := filepath.Glob(netns.Path("brig-*")) // the pattern is well-formed
	for _, path := range paths {
		if name := filepath.Base(path); name != cfg.TransitName() && netns.Do(path, hasUpLink) == nil {
			names = append(names, name)
		}
	}
	return names
}

func hasUpLink() error {
	_, err := netlink.LinkByName(transit.UpLink)
	return err
}

// links of a namespace other than loopback.
type links struct {
	ours    []string // their names in the transit namespace
	foreign []string // their names in the sandbox's
}

// notNeighbours refuses a namespace that has a link of another node's network: the
// sandbox there is the other node's, and two sentries would read each other's packets.
func (n *namespace) notNeighbours(cfg *config.Config) error {
	for _, name := range neighbours(cfg) {
		other, err := os.Open(netns.Path(name))
		if errors.Is(err, os.ErrNotExist) {
			continue // and its links are with it
		}
		if err != nil {
			return fmt.Errorf("open the transit namespace %s: %w", name, err)
		}
		inside, err := n.inside(other)
		other.Close()
		if err != nil && !netns.Exists(name) {
			continue
		}
		if err != nil {
			return fmt.Errorf("list the sandbox's interfaces: %w", err)
		}
		for _, l := range inside {
			if l.leadsToTransit {
				return refuse("interface %s of the sandbox is of another node's network (%s): start it on that node", l.name, name)
			}
		}
	}
	return nil
}

// links tells the node's from foreign ones; without a node all are foreign.
func (n *namespace) links(node *transit.Node) (links, error) {
	var transitNS *os.File
	if node != nil {
		f, err := os.Open(node.Path)
		if err != nil {
			return links{}, fmt.Errorf("open the transit namespace: %w", err)
		}
		defer f.Close()
		transitNS = f
	}
	inside, err := n.inside(transitNS)
	if err != nil {
		return links{}, fmt.Errorf("list the sandbox's interfaces: %w", err)
	}
	var found links
	n.ours = nil
	for _, l := range inside {
		name := ""
		if l.leadsToTransit {
			if name, err = n.owned(node, l); err != nil {
				return links{}, err
			}
		}
		if name == "" {
			found.foreign = append(found.foreign, l.name)
		} else {
			found.ours, n.ours = append(found.ours, name), append(n.ours, l.index)
		}
	}
	return found, nil
}

// link as it is seen from the sandbox's namespace.
type link struct {
	name           string
	index, peer    int
	mac            net.HardwareAddr
	leadsToTransit bool // a veth whose other end is in the transit namespace
}

func (n *namespace) inside(transitNS *os.File) (inside []link, err error) {
	err = netns.Do(n.path(), func() error {
		all, err := netlink.LinkList()
		if err != nil {
			return err
		}
		toTransit := -1
		if transitNS != nil {
			if toTransit, err = netlink.GetNetNsIdByFd(int(transitNS.Fd())); err != nil {
				return err
			}
		}
		for _, l := range all {
			a := l.Attrs()
			if a.Flags&net.FlagLoopback != 0 || dormant(l) {
				continue
			}
			inside = append(inside, link{
				name: a.Name, index: a.Index, peer: a.ParentIndex, mac: a.HardwareAddr,
				leadsToTransit: l.Type() == "veth" && toTransit >= 0 && a.NetNsID == toTransit,
			})
		}
		return nil
	})
	return inside, err
}

// fallbackTunnels are made by the kernel in every namespace once their module is
// loaded. Down, as they are made, they carry nothing, and runsc skips them.
var fallbackTunnels = []string{"ipip", "gre", "gretap", "erspan", "sit", "ip6tnl", "ip6gre", "ip6gretap", "vti", "vti6"}

func dormant(l netlink.Link) bool {
	return l.Attrs().Flags&net.FlagUp == 0 && slices.Contains(fallbackTunnels, l.Type())
}

// owned looks at the other end from the transit namespace, and returns its name if it
// is the link of an attachment of this very namespace, "" if not.
func (n *namespace) owned(node *transit.Node, l link) (name string, err error) {
	err = netns.Do(node.Path, func() error {
		peer, err := netlink.LinkByIndex(l.peer)
		if err != nil {
			return err
		}
		back, err := netlink.GetNetNsIdByFd(int(n.Fd()))
		if err != nil {
			return err
		}
		a := peer.Attrs()
		id, err := attachment.ParseAlias(a.Alias)
		if err == nil && a.Name == id.Link() && id.NetNS == n.inode && peer.Type() == "veth" &&
			a.ParentIndex == l.index && a.NetNsID == back && back >= 0 {
			name = a.Name
		}
		return nil
	})
	if err != nil || name == "" {
		return "", err
	}
	return name, n.sameMAC(node, name, l)
}

// sameMAC tells early what would otherwise be a sandbox whose packets all vanish.
func (n *namespace) sameMAC(node *transit.Node, name string, l link) error {
	return netns.Do(node.Path, func() error {
		peer, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		neighbours, err := netlink.NeighList(peer.Attrs().Index, netlink.FAMILY_V4)
		if err != nil {
			return err
		}
		for _, nb := range neighbours {
			if nb.State == unix.NUD_PERMANENT && bytes.Equal(nb.HardwareAddr, l.mac) {
				return nil
			}
		}
		return refuse("interface %s of the sandbox has another MAC address than brig-cni gave it: attach it anew", l.name)
	})
}

// raiseLoopback, because runsc gives a sandbox no loopback where the namespace has
// none that is up.
func (n *namespace) raiseLoopback() error {
	err := netns.Do(n.path(), func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return netlink.LinkSetUp(lo)
	})
	if err != nil {
		return fmt.Errorf("raise the sandbox's loopback: %w", err)
	}
	return nil
}
