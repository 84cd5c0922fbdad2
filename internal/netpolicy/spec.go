package netpolicy

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"brig/internal/sandbox"
)

// Spec is a policy as people write it. A nil list is absent, which is not the same
// as an empty one.
type Spec struct {
	BlockNetwork         bool      `json:"block_network,omitempty" toml:"block_network"`
	CIDRAllowlist        *[]string `json:"cidr_allowlist,omitempty" toml:"cidr_allowlist"`
	DomainAllowlist      *[]string `json:"domain_allowlist,omitempty" toml:"domain_allowlist"`
	InboundCIDRAllowlist *[]string `json:"inbound_cidr_allowlist,omitempty" toml:"inbound_cidr_allowlist"`
	// DNS is off, resolver, or empty: what the rest implies.
	DNS string `json:"dns,omitempty" toml:"dns"`
}

// Ceiling is what the operator lets a Spec say, and what stands where it says nothing.
type Ceiling struct {
	// AllowPrivate lists ranges of the never-list that a CIDR list may name.
	AllowPrivate []netip.Prefix
	// NoIPv6 refuses IPv6 ranges: the node has none, and they would be empty promises.
	NoIPv6 bool
	// Default is what stands for all of outbound that a Spec does not say; nil: open.
	Default *Spec
	// Max is what no policy may exceed; nil: nothing is too wide.
	Max *Policy
}

// Error says in one line what is wrong with a Spec and what to write instead.
type Error struct{ message string }

// Error is the line.
func (e *Error) Error() string { return e.message }

func refuse(format string, args ...any) error { return &Error{message: fmt.Sprintf(format, args...)} }

// Compile checks the whole Spec and returns what it means. Its errors are *Error.
func Compile(s Spec, ceiling Ceiling) (Policy, error) {
	s = s.or(ceiling.Default)
	p, err := compile(s, ceiling)
	if err != nil {
		return Policy{}, err
	}
	if ceiling.Max == nil {
		return p.sealed(), nil
	}
	if beyond := p.beyond(*ceiling.Max); beyond != "" {
		return Policy{}, refuse("%s is more than this node permits (%s): ask for less, or the operator for more (network.ceiling in the node's configuration)", beyond, ceiling.Max.described())
	}
	return p.sealed(), nil
}

// or is s with what the default says where s says nothing: of outbound, which is one
// thing, of DNS, and of inbound. So nothing opens by something else being said.
func (s Spec) or(standard *Spec) Spec {
	if standard == nil || s.BlockNetwork {
		return s
	}
	if s.CIDRAllowlist == nil && s.DomainAllowlist == nil {
		s.BlockNetwork, s.CIDRAllowlist, s.DomainAllowlist = standard.BlockNetwork, standard.CIDRAllowlist, standard.DomainAllowlist
		s.DNS = cmp.Or(s.DNS, standard.DNS)
	}
	if s.InboundCIDRAllowlist == nil && !s.BlockNetwork {
		s.InboundCIDRAllowlist = standard.InboundCIDRAllowlist
	}
	return s
}

func compile(s Spec, ceiling Ceiling) (Policy, error) {
	if s.BlockNetwork {
		return Policy{}, checkBlocked(s)
	}
	p := Open()
	switch p.dns = dnsWish(s.DNS); {
	case p.dns != dnsUnsaid && p.dns != dnsOff && p.dns != dnsResolver:
		return Policy{}, refuse("dns is %s; want off or resolver, or nothing", printable(s.DNS))
	case p.dns != dnsUnsaid && s.DomainAllowlist != nil:
		return Policy{}, refuse("dns cannot be chosen with domain_allowlist, whose names the resolver answers for: leave dns out")
	}
	if s.CIDRAllowlist != nil {
		ranges, err := compileOutbound(*s.CIDRAllowlist, ceiling)
		if err != nil {
			return Policy{}, err
		}
		p.egress, p.ranges = egressList, ranges
	}
	if s.DomainAllowlist != nil {
		names, err := parseNames(*s.DomainAllowlist)
		if err != nil {
			return Policy{}, err
		}
		p.egress, p.names = egressList, names
	}
	if s.InboundCIDRAllowlist != nil {
		ranges, err := parseList(*s.InboundCIDRAllowlist)
		if err != nil {
			return Policy{}, err
		}
		ranges = Normalise(ranges)
		p.inbound = &ranges
	}
	return p, nil
}

func checkBlocked(s Spec) error {
	for _, list := range []struct {
		name string
		set  *[]string
	}{
		{"cidr_allowlist", s.CIDRAllowlist},
		{"domain_allowlist", s.DomainAllowlist},
		{"inbound_cidr_allowlist", s.InboundCIDRAllowlist},
	} {
		if list.set != nil {
			return refuse("%s cannot be used when block_network is enabled", list.name)
		}
	}
	if s.DNS != "" && s.DNS != string(dnsOff) {
		return refuse("dns cannot be used when block_network is enabled")
	}
	return nil
}

// compileOutbound refuses an entry that lies in the never-list, and cuts the
// never-list out of wider ones: 0.0.0.0/0 is the public internet.
func compileOutbound(list []string, ceiling Ceiling) ([]Range, error) {
	entries, err := parseList(list)
	if err != nil {
		return nil, err
	}
	var private []Range
	for _, p := range ceiling.AllowPrivate {
		private = append(private, RangeOf(p))
	}
	private = Normalise(private)
	var ranges []Range
	for i, entry := range entries {
		switch {
		case ceiling.NoIPv6 && !entry.Is4():
			return nil, refuse("Invalid CIDR: %s: sandboxes of this node have no IPv6", list[i])
		case within(entry, private):
			ranges = append(ranges, entry)
		case within(entry, never):
			return nil, refuse("%s is a private, link-local or reserved range; only the operator can permit it (allow_private in the node's configuration)", list[i])
		default:
			ranges = append(ranges, subtract(entry, never)...)
		}
	}
	return Normalise(ranges), nil
}

func parseList(list []string) ([]Range, error) {
	if len(list) > MaxEntries {
		return nil, refuse("a list of %d ranges; at most %d", len(list), MaxEntries)
	}
	ranges := make([]Range, len(list))
	for i, s := range list {
		p, err := ParseCIDR(s)
		if err != nil {
			return nil, err
		}
		ranges[i] = RangeOf(p)
	}
	return ranges, nil
}

// ParseCIDR accepts a range such as 203.0.113.0/24 or 2001:db8::/32, without host bits.
func ParseCIDR(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" && !a.Is4In6() {
			return netip.Prefix{}, refuse("Invalid CIDR: %s; write %s/%d", s, s, a.BitLen())
		}
		return netip.Prefix{}, refuse("Invalid CIDR: %s", printable(s))
	case p.Addr().Is4In6():
		return netip.Prefix{}, refuse("Invalid CIDR: %s; write the IPv4 range", s)
	case p != p.Masked():
		return netip.Prefix{}, refuse("Invalid CIDR: %s has host bits set; write %s", s, p.Masked())
	}
	return p, nil
}

// printable keeps a hostile entry on one short line.
func printable(s string) string {
	if len(s) > 64 {
		s = s[:64] + "…"
	}
	if quoted := strconv.Quote(s); quoted != `"`+s+`"` {
		return quoted
	}
	return s
}

// SpecFromAnnotations reads the network annotations of an OCI spec and tells whether
// there was any. Annotations that are not brig's are left alone; one that begins
// with brig/ and is not known is an error, because somebody meant it.
func SpecFromAnnotations(annotations map[string]string) (Spec, bool, error) {
	var s Spec
	found := false
	for _, key := range slices.Sorted(maps.Keys(annotations)) { // the same error each time
		value := annotations[key]
		list := new([]string)
		switch key {
		case sandbox.AnnotationBlockNetwork:
			if value != "true" && value != "false" {
				return Spec{}, false, refuse("annotation %s is %s; want true or false", key, printable(value))
			}
			s.BlockNetwork = value == "true"
		case sandbox.AnnotationCIDRAllowlist:
			s.CIDRAllowlist = list
		case sandbox.AnnotationDomainAllowlist:
			s.DomainAllowlist = list
		case sandbox.AnnotationInboundCIDRAllowlist:
			s.InboundCIDRAllowlist = list
		case sandbox.AnnotationDNS:
			s.DNS = value
		case sandbox.AnnotationGPU, sandbox.AnnotationGPUCaps, sandbox.AnnotationTrace, sandbox.AnnotationSlot, sandbox.AnnotationPIDs, sandbox.AnnotationDiskMiB, sandbox.AnnotationSecrets: // no business of networks
			continue
		default:
			if strings.HasPrefix(key, sandbox.AnnotationPrefix) {
				return Spec{}, false, refuse("unknown annotation %s", printable(key))
			}
			continue
		}
		found = true
		*list = splitList(value)
	}
	return s, found, nil
}

func splitList(value string) []string {
	if strings.TrimSpace(value) == "" {
		return []string{}
	}
	entries := strings.Split(value, ",")
	for i := range entries {
		entries[i] = strings.TrimSpace(entries[i])
	}
	return entries
}

// Annotations that SpecFromAnnotations reads back as s. Of a Spec that says nothing
// there are none.
func (s Spec) Annotations() map[string]string {
	annotations := map[string]string{}
	if s.BlockNetwork {
		annotations[sandbox.AnnotationBlockNetwork] = "true"
	}
	if s.DNS != "" {
		annotations[sandbox.AnnotationDNS] = s.DNS
	}
	for key, list := range map[string]*[]string{
		sandbox.AnnotationCIDRAllowlist:        s.CIDRAllowlist,
		sandbox.AnnotationDomainAllowlist:      s.DomainAllowlist,
		sandbox.AnnotationInboundCIDRAllowlist: s.InboundCIDRAllowlist,
	} {
		if list != nil {
			annotations[key] = strings.Join(*list, ",")
		}
	}
	return annotations
}
