package netpolicy

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Name is an entry of a domain list.
type Name struct {
	// Pattern is a name in lower case without a final dot, or *. and a name: then it
	// means every name below that one, at any depth, but not that one itself.
	Pattern string
	// Port of TCP, 443 unless the entry names another. On 443 the TLS handshake must
	// ask for the name, too.
	Port uint16
}

// defaultPort of an entry that names none.
const defaultPort = 443

// String is the entry; the default port is left out.
func (n Name) String() string {
	if n.Port == defaultPort {
		return n.Pattern
	}
	return n.Pattern + ":" + strconv.Itoa(int(n.Port))
}

// Matches tells whether the entry means host; case and a final dot make no difference.
func (n Name) Matches(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if parent, ok := strings.CutPrefix(n.Pattern, "*"); ok { // ".example.com"
		return len(host) > len(parent) && strings.HasSuffix(host, parent) && host[0] != '.'
	}
	return host == n.Pattern
}

// covers tells whether every connection that other means n means, too.
func (n Name) covers(other Name) bool {
	if n.Port != other.Port {
		return false
	}
	if parent, ok := strings.CutPrefix(other.Pattern, "*."); ok {
		return n.Pattern == other.Pattern || strings.HasPrefix(n.Pattern, "*.") && n.Matches(parent)
	}
	return n.Matches(other.Pattern)
}

// parseNames sorts entries and drops those that are there twice.
func parseNames(list []string) ([]Name, error) {
	if len(list) > MaxNames {
		return nil, refuse("a list of %d names; at most %d", len(list), MaxNames)
	}
	names := make([]Name, len(list))
	for i, s := range list {
		var err error
		if names[i], err = ParseName(s); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(names, func(a, b Name) int {
		return cmp.Or(cmp.Compare(a.Pattern, b.Pattern), cmp.Compare(a.Port, b.Port))
	})
	return slices.Compact(names), nil
}

// ParseName accepts example.com, *.example.com, and either with a port behind it, as in
// example.com:8443. Names beyond ASCII are written in their xn-- form.
func ParseName(s string) (Name, error) {
	host, port, hasPort := strings.Cut(s, ":")
	if isAddress(s) || isAddress(host) {
		return Name{}, refuse("Invalid domain: %s is an address: name it in cidr_allowlist", printable(s))
	}
	n := Name{Pattern: strings.ToLower(host), Port: defaultPort}
	if hasPort {
		number, err := strconv.ParseUint(port, 10, 16)
		if err != nil || number == 0 || strconv.FormatUint(number, 10) != port {
			return Name{}, refuse("Invalid domain: %s: want NAME or NAME:PORT", printable(s))
		}
		n.Port = uint16(number)
	}
	switch name := strings.TrimPrefix(n.Pattern, "*."); {
	case strings.HasSuffix(name, "."):
		return Name{}, refuse("Invalid domain: %s; write it without the final dot", printable(s))
	case strings.Contains(name, "*"):
		return Name{}, refuse("Invalid domain: %s: a star stands for the first labels alone, as in *.example.com", printable(s))
	case !isName(name):
		return Name{}, refuse("Invalid domain: %s", printable(s))
	case !strings.Contains(name, "."):
		return Name{}, refuse("Invalid domain: %s: want a name with a dot, as example.com", printable(s))
	}
	return n, nil
}

func isAddress(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil
}

// isName tells whether s is labels of letters, digits, dashes and underscores, as DNS
// bounds them.
func isName(s string) bool {
	if len(s) > 253-len("*.") {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return false
			}
		}
	}
	return true
}
