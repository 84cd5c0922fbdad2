package nft

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// The statements that the rule sets are made of. Each puts values into registers,
// looks at them and decides; registers are numbered in words of four bytes, and a
// concatenation lies in consecutive ones.

// register is the number by which the kernel knows the word.
func register(word uint32) uint32 {
	if word%4 == 0 {
		return unix.NFT_REG_1 + word/4
	}
	return unix.NFT_REG32_00 + word
}

func say(text string, exprs ...expr.Any) statement { return statement{text, exprs} }

// all joins conditions and what follows from them.
func all(statements ...statement) rule { return statements }

func meta(key expr.MetaKey, word uint32) expr.Any {
	return &expr.Meta{Key: key, Register: register(word)}
}

func equal(data []byte) expr.Any {
	return &expr.Cmp{Op: expr.CmpOpEq, Register: unix.NFT_REG_1, Data: data}
}

func different(data []byte) expr.Any {
	return &expr.Cmp{Op: expr.CmpOpNeq, Register: unix.NFT_REG_1, Data: data}
}

func payload(base expr.PayloadBase, offset, size, word uint32) expr.Any {
	return &expr.Payload{DestRegister: register(word), Base: base, Offset: offset, Len: size}
}

func lookup(name string) expr.Any { return &expr.Lookup{SourceRegister: unix.NFT_REG_1, SetName: name} }

func native(n uint32) []byte { return binaryutil.NativeEndian.PutUint32(n) }

// nfproto is the family of the packet in a table of both.
func nfproto(family byte) []expr.Any {
	return []expr.Any{meta(expr.MetaKeyNFPROTO, 0), equal([]byte{family})}
}

// protocol of the transport.
func protocol(number byte) []expr.Any {
	return []expr.Any{meta(expr.MetaKeyL4PROTO, 0), equal([]byte{number})}
}

// from and to are the links of a packet; a name that ends in a star is the beginning of
// one.
func from(link string) statement {
	return say(fmt.Sprintf("iifname %q", link), meta(expr.MetaKeyIIFNAME, 0), equal(ifname(link)))
}

func notFrom(link string) statement {
	return say(fmt.Sprintf("iifname != %q", link), meta(expr.MetaKeyIIFNAME, 0), different(ifname(link)))
}

func to(link string) statement {
	return say(fmt.Sprintf("oifname %q", link), meta(expr.MetaKeyOIFNAME, 0), equal(ifname(link)))
}

func notTo(link string) statement {
	return say(fmt.Sprintf("oifname != %q", link), meta(expr.MetaKeyOIFNAME, 0), different(ifname(link)))
}

// ifname is a link's name as the kernel compares it.
func ifname(name string) []byte {
	if n := len(name); n > 0 && name[n-1] == '*' {
		return []byte(name[:n-1])
	}
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return b
}

// address is a field of the network header: where it stands in each family's.
type address struct {
	text     string
	family   byte
	off, len uint32
}

var (
	saddr4 = address{"ip saddr", unix.NFPROTO_IPV4, 12, 4}
	daddr4 = address{"ip daddr", unix.NFPROTO_IPV4, 16, 4}
	saddr6 = address{"ip6 saddr", unix.NFPROTO_IPV6, 8, 16}
	daddr6 = address{"ip6 daddr", unix.NFPROTO_IPV6, 24, 16}
)

func (a address) load(word uint32) expr.Any {
	return payload(expr.PayloadBaseNetworkHeader, a.off, a.len, word)
}

func (a address) in(name string) statement {
	return say(a.text+" @"+name, append(nfproto(a.family), a.load(0), lookup(name))...)
}

func (a address) notIn(name string) statement {
	miss := &expr.Lookup{SourceRegister: unix.NFT_REG_1, SetName: name, Invert: true}
	return say(a.text+" != @"+name, append(nfproto(a.family), a.load(0), miss)...)
}

func (a address) is(addr netip.Addr) statement {
	return say(a.text+" "+addr.String(), append(nfproto(a.family), a.load(0), equal(addr.AsSlice()))...)
}

func (a address) within(p netip.Prefix) statement {
	mask := make([]byte, a.len)
	for bit := range p.Bits() {
		mask[bit/8] |= 0x80 >> (bit % 8)
	}
	masked := &expr.Bitwise{SourceRegister: unix.NFT_REG_1, DestRegister: unix.NFT_REG_1, Len: a.len, Mask: mask, Xor: make([]byte, a.len)}
	if p.Bits()%8 == 0 { // whole bytes are compared without a mask
		return say(a.text+" "+p.String(), append(nfproto(a.family), payload(expr.PayloadBaseNetworkHeader, a.off, uint32(p.Bits()/8), 0), equal(p.Masked().Addr().AsSlice()[:p.Bits()/8]))...)
	}
	return say(a.text+" "+p.String(), append(nfproto(a.family), a.load(0), masked, equal(p.Masked().Addr().AsSlice()))...)
}

// identified is a packet whose link, MAC and address are one element of the set.
func identified(a address, name string) statement {
	exprs := []expr.Any{meta(expr.MetaKeyIIFTYPE, 0), equal(binaryutil.NativeEndian.PutUint16(unix.ARPHRD_ETHER))}
	exprs = append(append(nfproto(a.family), exprs...),
		meta(expr.MetaKeyIIFNAME, 0),
		payload(expr.PayloadBaseLLHeader, 6, 6, 4),
		a.load(6),
		lookup(name))
	return say(fmt.Sprintf("iifname . ether saddr . %s @%s", a.text, name), exprs...)
}

// port is a field of the transport header.
type port struct {
	text     string
	protocol byte
	off      uint32
}

var (
	dportTCP = port{"tcp dport", unix.IPPROTO_TCP, 2}
	dportUDP = port{"udp dport", unix.IPPROTO_UDP, 2}
)

func (p port) load(word uint32) expr.Any {
	return payload(expr.PayloadBaseTransportHeader, p.off, 2, word)
}

func (p port) is(number uint16) statement {
	return say(fmt.Sprintf("%s %d", p.text, number), append(protocol(p.protocol), p.load(0), equal(binary.BigEndian.AppendUint16(nil, number)))...)
}

// concatenation of a link's name, an address and ports, as the key of a set.
func concatenation(link expr.MetaKey, a address, ports ...port) (text string, exprs []expr.Any) {
	text = map[expr.MetaKey]string{expr.MetaKeyIIFNAME: "iifname", expr.MetaKeyOIFNAME: "oifname"}[link] + " . " + a.text
	exprs = append(nfproto(a.family), protocol(unix.IPPROTO_TCP)...)
	exprs = append(exprs, meta(link, 0), a.load(4))
	for i, p := range ports {
		text += " . " + p.text
		exprs = append(exprs, p.load(5+uint32(i)))
	}
	return text, exprs
}

// markedBy sets the connection's mark to what the map has for the concatenation; without
// that the rule ends.
func markedBy(name string, link expr.MetaKey, a address, ports ...port) statement {
	text, exprs := concatenation(link, a, ports...)
	return say(fmt.Sprintf("ct mark set %s map @%s", text, name), append(exprs,
		&expr.Lookup{SourceRegister: unix.NFT_REG_1, DestRegister: unix.NFT_REG_1, IsDestRegSet: true, SetName: name},
		&expr.Ct{Key: expr.CtKeyMARK, Register: unix.NFT_REG_1, SourceRegister: true})...)
}

// markIn is a packet whose connection has a mark that is the link's.
func markIn(name string, link expr.MetaKey) statement {
	word := map[expr.MetaKey]string{expr.MetaKeyIIFNAME: "iifname", expr.MetaKeyOIFNAME: "oifname"}[link]
	return say(word+" . ct mark @"+name, meta(link, 0), &expr.Ct{Key: expr.CtKeyMARK, Register: register(4)}, lookup(name))
}

// perLink evaluates e for the packet's link alone, in a set of the links that had any.
func perLink(name string, operation uint32, text string, e expr.Any) statement {
	word := map[uint32]string{unix.NFT_DYNSET_OP_ADD: "add", unix.NFT_DYNSET_OP_UPDATE: "update"}[operation]
	return say(fmt.Sprintf("%s @%s { iifname %s }", word, name, text), meta(expr.MetaKeyIIFNAME, 0),
		&expr.Dynset{SrcRegKey: unix.NFT_REG_1, SetName: name, Operation: operation, Exprs: []expr.Any{e}})
}

// byLink looks the verdict of a link up.
func byLink(key expr.MetaKey, name string) statement {
	word := map[expr.MetaKey]string{expr.MetaKeyIIFNAME: "iifname", expr.MetaKeyOIFNAME: "oifname"}[key]
	return say(word+" vmap @"+name, meta(key, 0), &expr.Lookup{SourceRegister: unix.NFT_REG_1, SetName: name, IsDestRegSet: true})
}

func nextHeaderIn(name string) statement {
	return say("ip6 nexthdr @"+name, append(nfproto(unix.NFPROTO_IPV6), payload(expr.PayloadBaseNetworkHeader, 6, 1, 0), lookup(name))...)
}

// tracked tells what conntrack has to say of the packet: a bit of its state or status.
func tracked(text string, key expr.CtKey, bit uint32) statement {
	return say(text, &expr.Ct{Key: key, Register: unix.NFT_REG_1},
		&expr.Bitwise{SourceRegister: unix.NFT_REG_1, DestRegister: unix.NFT_REG_1, Len: 4, Mask: native(bit), Xor: native(0)}, different(native(0)))
}

var (
	isNew         = tracked("ct state new", expr.CtKeySTATE, expr.CtStateBitNEW)
	isEstablished = tracked("ct state established", expr.CtKeySTATE, expr.CtStateBitESTABLISHED)
	isRelated     = tracked("ct state related", expr.CtKeySTATE, expr.CtStateBitRELATED)
	isUnknown     = tracked("ct state invalid,untracked", expr.CtKeySTATE, expr.CtStateBitINVALID|expr.CtStateBitUNTRACKED)
	isConfirmed   = tracked("ct status confirmed", expr.CtKeySTATUS, 1<<3)
	isTranslated  = tracked("ct status dnat", expr.CtKeySTATUS, 1<<5)
	isReply       = say("ct direction reply", &expr.Ct{Key: expr.CtKeyDIRECTION, Register: unix.NFT_REG_1}, equal([]byte{1}))
	isRoots       = say("meta skuid 0", meta(expr.MetaKeySKUID, 0), equal(native(0)))
	isFragment    = say("ip frag-off & 0x3fff != 0", append(nfproto(unix.NFPROTO_IPV4), payload(expr.PayloadBaseNetworkHeader, 6, 2, 0),
		&expr.Bitwise{SourceRegister: unix.NFT_REG_1, DestRegister: unix.NFT_REG_1, Len: 2, Mask: []byte{0x3f, 0xff}, Xor: []byte{0, 0}}, different([]byte{0, 0}))...)
	isTCP = say("meta l4proto tcp", protocol(unix.IPPROTO_TCP)...)
)

// Messages about a path whose packets must be smaller.
var (
	tooBig4 = say("icmp type destination-unreachable icmp code frag-needed", append(append(nfproto(unix.NFPROTO_IPV4), protocol(unix.IPPROTO_ICMP)...),
		payload(expr.PayloadBaseTransportHeader, 0, 1, 0), equal([]byte{3}), payload(expr.PayloadBaseTransportHeader, 1, 1, 0), equal([]byte{4}))...)
	tooBig6 = say("icmpv6 type packet-too-big", append(append(nfproto(unix.NFPROTO_IPV6), protocol(unix.IPPROTO_ICMPV6)...),
		payload(expr.PayloadBaseTransportHeader, 0, 1, 0), equal([]byte{2}))...)
)

// What becomes of a packet.
var (
	accept     = say("accept", &expr.Verdict{Kind: expr.VerdictAccept})
	back       = say("return", &expr.Verdict{Kind: expr.VerdictReturn})
	drop       = say("drop", &expr.Verdict{Kind: expr.VerdictDrop})
	counted    = say("counter", &expr.Counter{})
	reset      = say("reject with tcp reset", &expr.Reject{Type: unix.NFT_REJECT_TCP_RST})
	forbidden  = say("reject with icmpx admin-prohibited", &expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_ADMIN_PROHIBITED})
	masquerade = say("masquerade", &expr.Masq{})
)

func goTo(chain string) statement {
	return say("goto "+chain, &expr.Verdict{Kind: expr.VerdictGoto, Chain: chain})
}

func jump(chain string) statement {
	return say("jump "+chain, &expr.Verdict{Kind: expr.VerdictJump, Chain: chain})
}

func logged(prefix string, group uint16) statement {
	return say(fmt.Sprintf("log prefix %q group %d", prefix, group), &expr.Log{Key: 1<<unix.NFTA_LOG_GROUP | 1<<unix.NFTA_LOG_PREFIX, Group: group, Data: []byte(prefix)})
}

// translate sends the packet to another address and port.
func translate(to netip.AddrPort) statement {
	return say("dnat ip to "+to.String(),
		&expr.Immediate{Register: unix.NFT_REG_1, Data: to.Addr().AsSlice()},
		&expr.Immediate{Register: unix.NFT_REG_2, Data: binary.BigEndian.AppendUint16(nil, to.Port())},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: unix.NFT_REG_1, RegAddrMax: unix.NFT_REG_1, RegProtoMin: unix.NFT_REG_2, RegProtoMax: unix.NFT_REG_2, Specified: true})
}

func at(kind nftables.ChainType, name string, hooknum *nftables.ChainHook, priority nftables.ChainPriority, drop bool) *hook {
	return &hook{kind: kind, at: hooknum, atText: name, priority: priority, drop: drop}
}
