package netpolicy

import (
	"errors"
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
	BlockNetwork         bool      `json:"block_network,omitempty"`
	CIDRAllowlist        *[]string `json:"cidr_allowlist,omitempty"`
	DomainAllowlist      *[]string `json:"domain_allowlist,omitempty"`
	InboundCIDRAllowlist *[]string `json:"inbound_cidr_allowlist,omitempty"`
}

// Ceiling is what the operator lets a Spec name.
type Ceiling struct {
	// AllowPrivate lists ranges of the never-list that a CIDR list may name.
	AllowPrivate []netip.Prefix
}

// Error says in one line what is wrong with a Spec and what to write instead.
type Error struct {
	message     string
	unsupported bool
}

// Error is the line.
func (e *Error) Error() string { return e.message }

// Is errors.ErrUnsupported for what this version cannot enforce.
func (e *Error) Is(target error) bool { return e.unsupported && target == errors.ErrUnsupported }

func refuse(format string, args ...any) error { return &Error{message: fmt.Sprintf(format, args...)} }

// Compile checks the whole Spec and returns what it means. Its errors are *Error.
func Compile(s Spec, ceiling Ceiling) (Policy, error) {
	if s.DomainAllowlist != nil && !s.BlockNetwork {
		return Policy{}, &Error{unsupported: true,
			message: "domain_allowlist is not supported by this version; name the addresses in cidr_allowlist"}
	}
	if s.BlockNetwork {
		return Policy{}, checkBlocked(s)
	}
	p := Open()
	if s.CIDRAllowlist != nil {
		ranges, err := compileOutbound(*s.CIDRAllowlist, ceiling)
		if err != nil {
			return Policy{}, err
		}
		p.egress, p.ranges = egressList, ranges
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
		if p.Addr().Is4() {
			private = append(private, RangeOf(p))
		}
	}
	private = Normalise(private)
	var ranges []Range
	for i, entry := range entries {
		switch {
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

// ParseCIDR accepts an IPv4 range such as 203.0.113.0/24, without host bits.
func ParseCIDR(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		if a, err := netip.ParseAddr(s); err == nil && a.Is4() {
			return netip.Prefix{}, refuse("Invalid CIDR: %s; write %s/32", s, s)
		}
		return netip.Prefix{}, refuse("Invalid CIDR: %s", printable(s))
	case !p.Addr().Is4():
		return netip.Prefix{}, refuse("Invalid CIDR: %s: sandboxes of this node have no IPv6", s)
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
		case sandbox.AnnotationGPU:
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
