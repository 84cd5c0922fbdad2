package denials

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"brig/internal/netpolicy/nft"
)

// The kernel's side of nfnetlink_log, whose constants golang.org/x/sys lacks.
const (
	subsystem     = 4 // NFNL_SUBSYS_ULOG
	messagePacket = netlink.HeaderType(subsystem << 8)
	messageConfig = netlink.HeaderType(subsystem<<8 | 1)

	attrCommand = 1 // NFULA_CFG_CMD
	attrMode    = 2 // NFULA_CFG_MODE
	attrTimeout = 4 // NFULA_CFG_TIMEOUT, in hundredths of a second
	commandBind = 1
	copyPacket  = 2

	attrInDevice = 4  // NFULA_IFINDEX_INDEV
	attrPayload  = 9  // NFULA_PAYLOAD
	attrPrefix   = 10 // NFULA_PREFIX

	// nfgenmsg is what begins every message: family, version, group.
	nfgenmsg = 4
)

const (
	// copied of each packet, in bytes: an IPv6 header, extensions, ports.
	copied = 128
	// batched packets wait for company no longer than this, in hundredths of a second.
	batched = 10
	// receiveBuffer holds a burst while brigd is busy, in bytes.
	receiveBuffer = 1 << 20
)

// open binds the group in the calling thread's network namespace.
func open() (*netlink.Conn, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, fmt.Errorf("open the denials' socket: %w", err)
	}
	mode := binary.BigEndian.AppendUint32(nil, copied)
	for _, attr := range []netlink.Attribute{
		{Type: attrCommand, Data: []byte{commandBind}},
		{Type: attrMode, Data: append(mode, copyPacket, 0)},
		{Type: attrTimeout, Data: binary.BigEndian.AppendUint32(nil, batched)},
	} {
		if err := configure(conn, attr); err != nil {
			return nil, errors.Join(fmt.Errorf("bind netlink group %d of denials: %w", nft.LogGroup, err), conn.Close())
		}
	}
	if err := conn.SetReadBuffer(receiveBuffer); err != nil {
		return nil, errors.Join(fmt.Errorf("size the denials' socket: %w", err), conn.Close())
	}
	return conn, nil
}

func configure(conn *netlink.Conn, attr netlink.Attribute) error {
	data, err := netlink.MarshalAttributes([]netlink.Attribute{attr})
	if err != nil {
		return err
	}
	header := binary.BigEndian.AppendUint16([]byte{unix.AF_UNSPEC, 0}, nft.LogGroup)
	_, err = conn.Execute(netlink.Message{
		Header: netlink.Header{Type: messageConfig, Flags: netlink.Request | netlink.Acknowledge},
		Data:   append(header, data...),
	})
	return err
}

// logged is what the kernel says of one packet.
type logged struct {
	reason Reason
	device uint32 // index of the link that it came in by; 0: none
	packet []byte
}

// parse reads a message of the group; ok is false for one that is not the node's rules'.
func parse(m netlink.Message) (l logged, ok bool) {
	if m.Header.Type != messagePacket || len(m.Data) < nfgenmsg {
		return logged{}, false
	}
	attrs, err := netlink.NewAttributeDecoder(m.Data[nfgenmsg:])
	if err != nil {
		return logged{}, false
	}
	for attrs.Next() {
		data := attrs.Bytes()
		switch attrs.Type() {
		case attrPrefix:
			text, _, _ := strings.Cut(string(data), "\x00")
			reason, ours := strings.CutPrefix(text, nft.LogPrefix)
			l.reason, ok = Reason(strings.TrimSpace(reason)), ours
		case attrInDevice:
			if len(data) == 4 {
				l.device = binary.BigEndian.Uint32(data)
			}
		case attrPayload:
			l.packet = data
		}
	}
	return l, ok && attrs.Err() == nil
}
