package nft

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"brig/internal/netpolicy"
)

// Base describes the part of the transit rule set that no sandbox changes.
type Base struct {
	// Private are ranges of the never-list that policies may name.
	Private []netip.Prefix
	// Node are the node's own addresses, denied to every sandbox.
	Node []netip.Addr
	// Limits of each sandbox; 0 is none.
	Connections, NewConnections uint32
	Bandwidth                   uint64 // bytes a second
}

const (
	// rememberTime is how long a quiet link's limits are remembered.
	rememberTime = time.Minute
	maxLinks     = 65535
)

var (
	linkKey     = nftables.TypeIFName
	bindKey4    = nftables.MustConcatSetType(nftables.TypeIFName, nftables.TypeEtherAddr, nftables.TypeIPAddr)
	bindKey6    = nftables.MustConcatSetType(nftables.TypeIFName, nftables.TypeEtherAddr, nftables.TypeIP6Addr)
	linkAddrKey = nftables.MustConcatSetType(nftables.TypeIFName, nftables.TypeIPAddr)
	pinKey      = nftables.MustConcatSetType(nftables.TypeIFName, nftables.TypeIPAddr, nftables.TypeInetService)
	markKey     = nftables.MustConcatSetType(nftables.TypeIFName, nftables.TypeMark)
)

// extensionHeaders of IPv6 that may come first. A packet with any of them is refused:
// what they say, and what they hide, no rule looks at.
var extensionHeaders = []byte{0, 43, 44, 51, 60, 135, 139, 140, 253, 254}

// transit is the rule set of the transit namespace with these sandboxes in it.
//
// Every rule costs every packet, so what one kind of policy needs stands in its own chain:
// a list's ranges are exact, and are not held against the never-list again.
//
// Identity stands before defragmentation (priority -450), because later a forged first
// fragment could borrow its tail from a sibling. Every packet from a sandbox is judged
// without memory of earlier ones, so a tightened policy ends live flows at the next
// packet, with a reset that the sandbox's end understands. Memory serves only what
// narrows: limits, replies, and connections to a name, which outlive its DNS record.
func transit(b Base, seats []Seat, now time.Duration) table {
	t := table{family: nftables.TableFamilyINet, name: tableName}
	t.sets = append(baseSets(b), seatSets(seats, now)...)
	t.chains = baseChains(b)
	for _, r := range ruleSetsOf(seats...) {
		t.sets = append(t.sets, r.sets()...)
		t.chains = append(t.chains, r.chains()...)
	}
	return t
}

const tableName = "brig"

// neighbours are permanent, so ARP is neither needed nor believed.
func neighbours() table {
	hook := at(nftables.ChainTypeFilter, "input", nftables.ChainHookRef(0), 0, true)
	return table{family: nftables.TableFamilyARP, name: tableName, chains: []chain{{name: "input", hook: hook, rules: []rule{all(from("up0"), accept)}}}}
}

// ranges become elements of an interval set.
func ranges(list []netpolicy.Range) []element {
	elements := make([]element, len(list))
	for i, r := range list {
		text := r.String()
		if r.From == r.To {
			text = r.From.String()
		}
		elements[i] = element{key: r.From.AsSlice(), last: r.To.AsSlice(), text: text}
	}
	return elements
}

func baseSets(b Base) []set {
	var private []netpolicy.Range
	for _, p := range b.Private {
		private = append(private, netpolicy.RangeOf(p))
	}
	never4, never6 := netpolicy.Split(netpolicy.Never())
	private4, private6 := netpolicy.Split(netpolicy.Normalise(private))
	var node4, node6 []element
	for _, a := range b.Node {
		if e := (element{key: a.AsSlice(), text: a.String()}); a.Is4() {
			node4 = append(node4, e)
		} else {
			node6 = append(node6, e)
		}
	}
	var headers []element
	for _, h := range extensionHeaders {
		headers = append(headers, element{key: []byte{h}, text: fmt.Sprint(h)})
	}
	v4, v6 := nftables.TypeIPAddr, nftables.TypeIP6Addr
	return []set{
		{name: "never4", key: v4, interval: true, elements: ranges(never4)},
		{name: "never6", key: v6, interval: true, elements: ranges(never6)},
		{name: "private4", key: v4, interval: true, elements: ranges(private4)},
		{name: "private6", key: v6, interval: true, elements: ranges(private6)},
		{name: "node4", key: v4, elements: node4},
		{name: "node6", key: v6, elements: node6},
		{name: "headers6", key: nftables.TypeInetProto, elements: headers},
		{name: "denials", key: linkKey, dynamic: true, expires: true, timeout: rememberTime, size: maxLinks},
		{name: "fresh", key: linkKey, dynamic: true, expires: true, timeout: rememberTime, size: maxLinks},
		{name: "busy", key: linkKey, dynamic: true, size: maxLinks},
		{name: "pieces", key: linkKey, dynamic: true, expires: true, timeout: rememberTime, size: maxLinks},
		{name: "volume", key: linkKey, dynamic: true, expires: true, timeout: rememberTime, size: maxLinks},
	}
}

// Reasons of a denial, as they stand behind LogPrefix.
const (
	ReasonIdentity = "identity" // not who the link's sandbox is
	ReasonNode     = "node"     // an address of the node
	ReasonNever    = "never"    // a range that is nobody's
	ReasonPolicy   = "policy"   // not named by the policy
	ReasonUnbound  = "unbound"  // no policy yet
	ReasonLimit    = "limit"    // too many connections
	ReasonSibling  = "sibling"  // another sandbox
	ReasonService  = "service"  // nothing of the node's that its policy has
)

// Reasons lists all of them.
var Reasons = []string{ReasonIdentity, ReasonNode, ReasonNever, ReasonPolicy, ReasonUnbound, ReasonLimit, ReasonSibling, ReasonService}

// denialChain counts, tells and refuses.
func denialChain(reason string) string { return "deny_" + reason }

// deny is the chain of a reason. Programs fail at once where a refusal can be said:
// with a reset or an ICMP error. Forgeries and strays are dropped without a word.
func deny(reason string) chain {
	end := goTo("refuse")
	if reason == ReasonIdentity || reason == ReasonUnbound {
		end = drop
	}
	few := &expr.Limit{Type: expr.LimitTypePkts, Rate: 5, Unit: expr.LimitTimeSecond, Burst: 10}
	return chain{name: denialChain(reason), rules: []rule{
		all(counted),
		all(perLink("denials", unix.NFT_DYNSET_OP_UPDATE, "limit rate 5/second burst 10 packets", few), logged(LogPrefix+reason, LogGroup)),
		all(end),
	}}
}

func filter(name string, hooknum *nftables.ChainHook, priority nftables.ChainPriority, drop bool) *hook {
	return at(nftables.ChainTypeFilter, name, hooknum, priority, drop)
}

func baseChains(b Base) []chain {
	gateway := netip.MustParseAddr(Gateway)
	sandboxes := from(LinkPrefix + "*")
	no := func(reason string) statement { return goTo(denialChain(reason)) }
	chains := []chain{
		{name: "refuse", rules: []rule{all(isTCP, reset), all(forbidden)}},
		{name: "out_open", rules: []rule{
			all(daddr4.in("never4"), no(ReasonNever)),
			all(daddr6.in("never6"), no(ReasonNever)),
			all(accept),
		}},
		{name: "in_open", rules: []rule{all(saddr4.in("never4"), drop), all(saddr6.in("never6"), drop), all(accept)}},
		{name: "in_none", rules: []rule{all(drop)}},
		// A connection to a name and port is marked at its beginning, if the address is
		// pinned, with the generation that pinned it; it lives as long as that is the one in
		// force. So it outlives the name's record, and never the policy.
		{name: "out_names", rules: namesOut("marks", no(ReasonPolicy))},
		{name: "in_names", rules: []rule{all(markIn("marks", expr.MetaKeyOIFNAME), accept), all(drop)}},
		{name: "out_names_lease", rules: namesOut("marks_lease", no(ReasonPolicy))},
		{name: "in_names_lease", rules: []rule{all(markIn("marks_lease", expr.MetaKeyOIFNAME), accept), all(drop)}},
		{name: "limits", rules: limits(b)},
		{name: "from_sandbox", rules: append(append([]rule{
			// An error about somebody's connection is never a sandbox's to send: it may be
			// about another's.
			all(isRelated, counted, drop),
			all(daddr4.in("node4"), no(ReasonNode)),
			all(daddr6.in("node6"), no(ReasonNode)),
			all(isNew, jump("limits")),
		}, bandwidth(b)...), []rule{
			all(byLink(expr.MetaKeyIIFNAME, "egress")),
			all(no(ReasonUnbound)),
		}...)},
		{name: "leased_egress", rules: []rule{
			all(byLink(expr.MetaKeyIIFNAME, "egress_lease")),
			all(byLink(expr.MetaKeyIIFNAME, "egress_base")),
			all(no(ReasonUnbound)),
		}},
		{name: "to_sandbox", rules: []rule{
			all(isEstablished, isReply, goTo("replies")),
			all(isRelated, tooBig4, accept),
			all(isRelated, tooBig6, accept),
			all(counted, drop),
		}},
		{name: "replies", rules: []rule{
			all(byLink(expr.MetaKeyOIFNAME, "ingress")),
			all(counted, drop),
		}},
		{name: "leased_ingress", rules: []rule{
			all(byLink(expr.MetaKeyOIFNAME, "ingress_lease")),
			all(byLink(expr.MetaKeyOIFNAME, "ingress_base")),
			all(counted, drop),
		}},
		// What of the node's own a policy has: the resolver, and with names the
		// connections that names_nat has sent here.
		{name: "ask_resolver", rules: []rule{
			all(daddr4.is(gateway), dportUDP.is(53), accept),
			all(daddr4.is(gateway), dportTCP.is(53), accept),
			all(no(ReasonService)),
		}},
		{name: "ask_names", rules: []rule{
			all(isTranslated, daddr4.is(gateway), dportTCP.is(SNIPort), accept),
			all(goTo("ask_resolver")),
		}},
		{name: "to_node", rules: []rule{
			all(isEstablished, isReply, accept), // brigd dialled it
			all(isNew, jump("limits")),
			all(byLink(expr.MetaKeyIIFNAME, "ask")),
			all(no(ReasonService)),
		}},
		{name: "leased_ask", rules: []rule{
			all(byLink(expr.MetaKeyIIFNAME, "ask_lease")),
			all(byLink(expr.MetaKeyIIFNAME, "ask_base")),
			all(no(ReasonService)),
		}},
		{name: "identity", hook: filter("prerouting", nftables.ChainHookPrerouting, -450, false), rules: []rule{
			all(notFrom(LinkPrefix+"*"), accept),
			all(nextHeaderIn("headers6"), no(ReasonIdentity)),
			all(isFragment, perLink("pieces", unix.NFT_DYNSET_OP_UPDATE, "limit rate over 50/second burst 100 packets", manyPieces), counted, drop),
			all(identified(saddr4, "bind4"), accept),
			all(identified(saddr6, "bind6"), accept),
			all(no(ReasonIdentity)),
		}},
		{name: "names_nat", hook: at(nftables.ChainTypeNAT, "prerouting", nftables.ChainHookPrerouting, -100, false), rules: []rule{
			all(dportTCP.is(443), pinned("sni4"), translate(netip.AddrPortFrom(gateway, SNIPort))),
		}},
		{name: "input", hook: filter("input", nftables.ChainHookInput, 0, true), rules: []rule{
			all(sandboxes, goTo("to_node")),
			all(from("up0"), isEstablished, accept),
			all(from("lo"), accept),
			all(counted),
		}},
		{name: "output", hook: filter("output", nftables.ChainHookOutput, 0, true), rules: []rule{
			all(to("lo"), accept),
			all(isRoots, accept), // brigd: tunnels, the resolver
			all(isEstablished, accept),
			all(isRelated, accept), // resets and errors that the kernel makes
			all(counted),
		}},
		{name: "forward", hook: filter("forward", nftables.ChainHookForward, 0, true), rules: []rule{
			all(sandboxes, to("up0"), goTo("from_sandbox")),
			all(from("up0"), to(LinkPrefix+"*"), goTo("to_sandbox")),
			all(sandboxes, no(ReasonSibling)),
			all(counted),
		}},
	}
	for _, reason := range Reasons {
		chains = append(chains, deny(reason))
	}
	return chains
}

// manyPieces of datagrams in a second; they wait for each other in memory that all share.
var manyPieces = &expr.Limit{Type: expr.LimitTypePkts, Rate: 50, Unit: expr.LimitTimeSecond, Burst: 100, Over: true}

// pinned is a packet to an address that its link's sandbox knows by a name.
func pinned(name string) statement {
	return say("iifname . ip daddr @"+name, append(nfproto(unix.NFPROTO_IPV4), meta(expr.MetaKeyIIFNAME, 0), daddr4.load(4), lookup(name))...)
}

func namesOut(marks string, otherwise statement) []rule {
	return []rule{
		all(isNew, markedBy("pins4", expr.MetaKeyIIFNAME, daddr4, dportTCP)),
		all(markIn(marks, expr.MetaKeyIIFNAME), accept),
		all(otherwise),
	}
}

// limits of new connections; what a sandbox refuses itself, it cannot take from others.
func limits(b Base) (rules []rule) {
	over := goTo(denialChain(ReasonLimit))
	// A flow that nobody answers stays new; it is counted at its first packet.
	rules = append(rules, all(isConfirmed, back))
	if n := b.NewConnections; n > 0 {
		limit := &expr.Limit{Type: expr.LimitTypePkts, Rate: uint64(n), Unit: expr.LimitTimeSecond, Burst: 2 * n, Over: true}
		rules = append(rules, all(perLink("fresh", unix.NFT_DYNSET_OP_UPDATE, fmt.Sprintf("limit rate over %d/second burst %d packets", n, 2*n), limit), over))
	}
	if n := b.Connections; n > 0 {
		rules = append(rules, all(perLink("busy", unix.NFT_DYNSET_OP_ADD, fmt.Sprintf("ct count over %d", n), &expr.Connlimit{Count: n, Flags: expr.NFT_CONNLIMIT_F_INV}), over))
	}
	return rules
}

func bandwidth(b Base) []rule {
	if b.Bandwidth == 0 {
		return nil
	}
	burst := uint32(min(b.Bandwidth, 1<<30))
	limit := &expr.Limit{Type: expr.LimitTypePktBytes, Rate: b.Bandwidth, Unit: expr.LimitTimeSecond, Burst: burst, Over: true}
	return []rule{all(perLink("volume", unix.NFT_DYNSET_OP_UPDATE, fmt.Sprintf("limit rate over %d bytes/second burst %d bytes", b.Bandwidth, burst), limit), drop)}
}
