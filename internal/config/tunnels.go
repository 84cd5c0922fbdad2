package config

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
)

// hostPattern is a name of the DNS in lower case without a dot at its end; labels of
// more than 63 characters are told apart by hostname.
var hostPattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$`)

// hostname tells whether s is a name of the DNS with room for most further characters.
func hostname(s string, most int) bool {
	if len(s) > 253-most || !hostPattern.MatchString(s) {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if len(label) > 63 {
			return false
		}
	}
	return true
}

func isAddress(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil
}

// ownLabel bounds what a tunnel's name has before the domain: a port, an id, a dot.
const ownLabel = 32

func (t Tunnels) validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !isAddress(t.Bind) {
		bad("tunnels.bind %q: want an address", t.Bind)
	}
	if !isAddress(t.Advertise) && !hostname(strings.ToLower(t.Advertise), 0) {
		bad("tunnels.advertise %q: want a host name or an address", t.Advertise)
	}
	if (t.Certificate == "") != (t.Key == "") {
		bad("tunnels.certificate and tunnels.key belong together: give both or none")
	}
	if t.Domain != "" && (isAddress(t.Domain) || !hostname(t.Domain, ownLabel)) {
		bad("tunnels.domain %q: want a domain in lower case", t.Domain)
	}
	if t.Domain != "" && t.SharedPort == 0 {
		bad("tunnels.domain needs tunnels.shared_port: the port that its names are led by")
	}
	if t.Domain == "" && t.SharedPort != 0 && t.ACME.Directory == "" {
		bad("tunnels.shared_port needs tunnels.domain: it leads by the names below it")
	}
	for key, n := range map[string]uint32{
		"connections": t.Limits.Connections, "per_sandbox": t.Limits.PerSandbox, "per_tunnel": t.Limits.PerTunnel, "per_source": t.Limits.PerSource,
	} {
		if n < 1 || n > 1<<20 {
			bad("tunnels.limits.%s %d: want 1 to %d", key, n, 1<<20)
		}
	}
	return errors.Join(append(errs, t.validateACME(), absolute("tunnels.certificate", t.Certificate), absolute("tunnels.key", t.Key))...)
}

func (t Tunnels) validateACME() error {
	if t.ACME.Directory == "" {
		return nil
	}
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if u, err := url.Parse(t.ACME.Directory); err != nil || u.Scheme != "https" || u.Host == "" {
		bad("tunnels.acme.directory %q: want an https URL", t.ACME.Directory)
	}
	if t.Certificate != "" {
		bad("tunnels.certificate and tunnels.acme exclude each other: choose where certificates come from")
	}
	if t.SharedPort == 0 {
		bad("tunnels.acme needs tunnels.shared_port: authorities look there, from their port 443")
	}
	if isAddress(t.Advertise) && t.Domain == "" {
		bad("tunnels.acme needs a name in tunnels.advertise, or tunnels.domain: addresses get no certificate")
	}
	return errors.Join(append(errs, absolute("tunnels.acme.root", t.ACME.Root))...)
}
