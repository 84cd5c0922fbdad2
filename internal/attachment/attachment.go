// Package attachment names what connects one sandbox to the node: the keys by which
// CNI knows an attachment, the link that it gets in the transit namespace, and the
// identity that this link carries in its alias.
//
// The plugin writes these names and the gate believes nothing else: a link is a
// sandbox's only if its alias names that sandbox's network namespace. Values only,
// no I/O.
package attachment

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// LinkPrefix begins the name of every sandbox's link in the transit namespace.
const LinkPrefix = "brg"

// DeadGroup is the group of links that wait to be removed ("brig" in ASCII): they are
// nobody's any more.
const DeadGroup = 0x62726967

// maxAlias is the kernel's IFALIASZ less the terminating zero.
const maxAlias = 255

// GatewayMAC is the hardware address of every link's transit end. Point-to-point
// links share no segment, so one for all can clash with none.
var GatewayMAC = net.HardwareAddr{0x02, 0x00, 169, 254, 1, 1}

// MAC is the hardware address of the sandbox that has the IPv4 address a.
func MAC(a netip.Addr) net.HardwareAddr {
	b := a.As4()
	return net.HardwareAddr{0x02, 0x01, b[0], b[1], b[2], b[3]}
}

// Key is what CNI tells at every call, also at a DEL that knows nothing else.
type Key struct {
	Network     string // name of the CNI network
	ContainerID string
	IfName      string // of the interface in the sandbox
}

// Link is the name of the attachment's link in the transit namespace.
func (k Key) Link() string {
	sum := sha256.Sum256([]byte(k.Network + "\x00" + k.ContainerID + "\x00" + k.IfName))
	return LinkPrefix + hex.EncodeToString(sum[:6])
}

// Identity of an attachment: whose it is, and in which network namespace the
// sandbox's end was put.
type Identity struct {
	Key
	NetNS uint64 // inode of the namespace, unique while it lives
}

// Alias is the identity as text for the link's alias. The parts stay apart: no two
// identities have the same alias.
func (i Identity) Alias() (string, error) {
	for _, part := range []string{i.Network, i.ContainerID, i.IfName} {
		if part == "" || strings.ContainsAny(part, " \t\r\n\x00") {
			return "", fmt.Errorf("invalid attachment %q of network %q, interface %q: empty or with white space", i.ContainerID, i.Network, i.IfName)
		}
	}
	alias := fmt.Sprintf("brig %d %s %s %s", i.NetNS, i.IfName, i.Network, i.ContainerID)
	if len(alias) > maxAlias {
		return "", fmt.Errorf("attachment %q of network %q: names longer than a link can carry", i.ContainerID, i.Network)
	}
	return alias, nil
}

// ParseAlias accepts exactly what Alias writes.
func ParseAlias(alias string) (Identity, error) {
	parts := strings.Split(alias, " ")
	if len(parts) != 5 || parts[0] != "brig" {
		return Identity{}, fmt.Errorf("alias %q is not an attachment's", alias)
	}
	inode, err := strconv.ParseUint(parts[1], 10, 64)
	if err != nil {
		return Identity{}, fmt.Errorf("alias %q is not an attachment's", alias)
	}
	i := Identity{Key{Network: parts[3], ContainerID: parts[4], IfName: parts[2]}, inode}
	if again, err := i.Alias(); err != nil || again != alias {
		return Identity{}, fmt.Errorf("alias %q is not an attachment's", alias)
	}
	return i, nil
}
