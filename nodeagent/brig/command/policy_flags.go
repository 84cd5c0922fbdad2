package command

import (
	brigv1 "brig/nodeagent/api/brig/v1"
	"github.com/spf13/pflag"
)

// policyFlags are a network policy as create, run and policy set take it.
type policyFlags struct {
	block, noEgress         bool
	cidrs, domains, inbound []string
	dns                     string
}

// policyFlagNames are those that say something of a policy.
var policyFlagNames = []string{"block-network", "no-egress", "cidr-allow", "domain-allow", "inbound-cidr", "dns"}

func (f *policyFlags) register(fs *pflag.FlagSet) {
	fs.SetNormalizeFunc(aliases)
	fs.BoolVar(&f.block, "block-network", false, "no network at all, not even names")
	fs.StringArrayVar(&f.cidrs, "cidr-allow", nil, "may connect to this `CIDR` and no other (repeatable; --cidr-allowlist is the same)")
	fs.StringArrayVar(&f.domains, "domain-allow", nil, "may connect to this `NAME`, or *.NAME, by TLS on 443 or on NAME:PORT, and to no other (repeatable)")
	fs.BoolVar(&f.noEgress, "no-egress", false, "may connect to nothing; tunnels still lead in")
	fs.StringArrayVar(&f.inbound, "inbound-cidr", nil, "may use the tunnels from this `CIDR` (repeatable; default: any)")
	fs.StringVar(&f.dns, "dns", "", "`MODE` of the node's resolver: off, or resolver for every name (default: what the rest implies)")
}

// aliases lets flags be called by the protocol's names, too.
func aliases(_ *pflag.FlagSet, name string) pflag.NormalizedName {
	switch name {
	case "cidr-allowlist":
		name = "cidr-allow"
	case "domain-allowlist":
		name = "domain-allow"
	case "inbound-cidr-allowlist":
		name = "inbound-cidr"
	}
	return pflag.NormalizedName(name)
}

// said tells whether any of the flags was given.
func (f *policyFlags) said(fs *pflag.FlagSet) bool {
	for _, name := range policyFlagNames {
		if fs.Changed(name) {
			return true
		}
	}
	return false
}

// outbound tells whether the flags say what may be connected to.
func (f *policyFlags) outbound() bool {
	return f.block || f.noEgress || len(f.cidrs)+len(f.domains) > 0
}

// network is nil if nothing was said.
func (f *policyFlags) network(fs *pflag.FlagSet) (*brigv1.NetworkPolicy, error) {
	for _, other := range []string{"cidr-allow", "domain-allow"} {
		if f.noEgress && fs.Changed(other) {
			return nil, usagef("--no-egress and --%s exclude each other; keep one", other)
		}
	}
	if !f.said(fs) {
		return nil, nil
	}
	n := &brigv1.NetworkPolicy{BlockNetwork: f.block, Dns: f.dns}
	if fs.Changed("cidr-allow") || f.noEgress {
		n.CidrAllowlist = &brigv1.CidrList{Cidrs: f.cidrs}
	}
	if fs.Changed("domain-allow") {
		n.DomainAllowlist = &brigv1.DomainList{Domains: f.domains}
	}
	if fs.Changed("inbound-cidr") {
		n.InboundCidrAllowlist = &brigv1.CidrList{Cidrs: f.inbound}
	}
	return n, nil
}
