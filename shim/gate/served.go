package gate

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"brig/internal/config"
	"brig/internal/netns"
	"brig/internal/netpolicy/nft"
	"brig/internal/transit"
)

// states of a socket that takes what comes, as bits: TCP_LISTEN, and TCP_CLOSE, which is
// what a datagram socket without a peer has.
const (
	listening = 1 << 10
	unpeered  = 1 << 7
)

// namesServed returns nil if brigd answers for names in this node's transit namespace.
// A socket that is there ends with its process, so the kernel is asked, not a file.
func namesServed(cfg *config.Config) error {
	if !netns.Exists(cfg.TransitName()) {
		return noNames("the node has no network yet")
	}
	return netns.Do(transit.Path(cfg), func() error {
		for _, want := range []struct {
			name     string
			protocol uint8
			states   uint32
			port     uint16
		}{
			{"UDP port 53", unix.IPPROTO_UDP, unpeered, 53},
			{"TCP port 53", unix.IPPROTO_TCP, listening, 53},
			{"TCP port 8443", unix.IPPROTO_TCP, listening, nft.SNIPort},
		} {
			found, err := hasSocket(want.protocol, want.states, netip.AddrPortFrom(netip.MustParseAddr(nft.Gateway), want.port))
			if err != nil {
				return fmt.Errorf("look for brigd's resolver: %w", err)
			}
			if !found {
				return noNames("nothing listens on " + want.name + " of " + nft.Gateway)
			}
		}
		return nil
	})
}

func noNames(reason string) error {
	return refuse("a domain list needs brigd, which answers for its names, and it does not run on this node (%s): start brigd with the same configuration, or name addresses in brig/cidr-allowlist", reason)
}

// sizes and offsets of struct inet_diag_req_v2 and struct inet_diag_msg. Ports and
// addresses in them are as on the wire.
const (
	requestSize   = 56
	messageSize   = 72
	messagePort   = 4
	messageSource = 8
)

// hasSocket asks the kernel of the calling thread's namespace for an IPv4 socket.
func hasSocket(protocol uint8, states uint32, at netip.AddrPort) (bool, error) {
	data := make([]byte, requestSize)
	data[0], data[1] = unix.AF_INET, protocol
	binary.NativeEndian.PutUint32(data[4:], states)
	binary.BigEndian.PutUint16(data[8:], at.Port())
	request := nl.NewNetlinkRequest(nl.SOCK_DIAG_BY_FAMILY, unix.NLM_F_DUMP)
	request.AddRawData(data)
	messages, err := request.Execute(unix.NETLINK_INET_DIAG, nl.SOCK_DIAG_BY_FAMILY)
	if err != nil {
		return false, err
	}
	for _, m := range messages {
		if len(m) < messageSize {
			return false, fmt.Errorf("a socket in %d bytes", len(m))
		}
		source := netip.AddrFrom4([4]byte(m[messageSource:]))
		if netip.AddrPortFrom(source, binary.BigEndian.Uint16(m[messagePort:])) == at {
			return true, nil
		}
	}
	return false, nil
}
