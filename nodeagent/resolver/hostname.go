package resolver

import (
	"strings"

	"brig/internal/netpolicy"
)

// The most that a sandbox may choose of a name that a wildcard admits.
const (
	maxFree       = 100 // octets
	maxFreeLabels = 8
)

// Hostname returns a name in the spelling that lists are compared with: lower case, no
// final dot. False is for what no host is called. DNS itself would carry any octet, and
// spells the odd ones with escapes: in the name evil\.example.com the dot does not part
// labels, so it is below com and not below example.com.
func Hostname(name string) (string, bool) {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if len(name) == 0 || len(name) > 253 {
		return "", false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return "", false
		}
		for _, c := range []byte(label) {
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return "", false
			}
		}
	}
	return name, true
}

// entry is what a policy's list says of one host.
type entry struct {
	ports []uint16
	// free is the part that the sandbox chose itself, with its final dot; "" if the
	// list has the very name.
	free string
}

// lookUp finds the host among a policy's names.
func lookUp(names []netpolicy.Name, host string) (e entry, ok bool) {
	for _, n := range names {
		if !n.Matches(host) {
			continue
		}
		free := ""
		if parent, wildcard := strings.CutPrefix(n.Pattern, "*."); wildcard {
			free = strings.TrimSuffix(host, parent)
		}
		if !ok || len(free) < len(e.free) {
			e.free = free
		}
		e.ports, ok = append(e.ports, n.Port), true
	}
	return e, ok
}

// long tells whether the free part has room for more than a host's name.
func (e entry) long() bool {
	return len(e.free) > maxFree || strings.Count(e.free, ".") > maxFreeLabels
}
