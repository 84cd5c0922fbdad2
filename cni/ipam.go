package cni

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
)

// ipam is the plugin that a list names to pick addresses instead of the node's own
// allocator. It is run for every verb as CNI says, with the input that this plugin got;
// what it picks is leased like any other address, so that two sandboxes never share
// one, whatever it says.
type ipam struct {
	Type  string
	input []byte
}

// delegate returns the list's IPAM plugin; nil: there is none.
func (c conf) delegate(input []byte) (*ipam, error) {
	if len(c.IPAM) == 0 || string(c.IPAM) == "null" {
		return nil, nil
	}
	var named struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(c.IPAM, &named); err != nil {
		return nil, invalid("ipam of the network configuration: %v", err)
	}
	if named.Type == "" || strings.ContainsAny(named.Type, "/\x00") || named.Type == ".." || named.Type == "." {
		return nil, invalid("ipam.type %q is not a plugin's name; leave ipam out for brig's own allocator", named.Type)
	}
	return &ipam{named.Type, input}, nil
}

func (i *ipam) fail(verb string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("IPAM plugin %s: %s: %w", i.Type, verb, err)
}

// add picks addresses; a6 is invalid if it picked no IPv6. What does not fit is given
// back. An address that it keeps for this very attachment from an ADD that was killed
// is given back first.
func (i *ipam) add(ctx context.Context) (a, a6 netip.Addr, err error) {
	if err := i.del(ctx); err != nil {
		return a, a6, err
	}
	result, err := invoke.DelegateAdd(ctx, i.Type, i.input, nil)
	if err != nil {
		return a, a6, errors.Join(i.fail("ADD", err), i.del(ctx))
	}
	if a, a6, err = pick(result); err != nil {
		return netip.Addr{}, netip.Addr{}, errors.Join(invalid("IPAM plugin %s: %v", i.Type, err), i.del(ctx))
	}
	return a, a6, nil
}

func (i *ipam) del(ctx context.Context) error {
	return i.fail("DEL", invoke.DelegateDel(ctx, i.Type, i.input, nil))
}

func (i *ipam) check(ctx context.Context) error {
	return i.fail("CHECK", invoke.DelegateCheck(ctx, i.Type, i.input, nil))
}

func (i *ipam) gc(ctx context.Context) error {
	return i.fail("GC", invoke.DelegateGC(ctx, i.Type, i.input, nil))
}

func (i *ipam) status(ctx context.Context) error {
	return i.fail("STATUS", invoke.DelegateStatus(ctx, i.Type, i.input, nil))
}

// pick takes from a result one IPv4 address and at most one IPv6. All else must be what
// brig does anyhow: it has one gateway, one route and one resolver.
func pick(result types.Result) (a, a6 netip.Addr, err error) {
	r, err := types100.GetResult(result)
	if err != nil {
		return a, a6, err
	}
	for _, ip := range r.IPs {
		one, ok := netip.AddrFromSlice(ip.Address.IP)
		one = one.Unmap()
		place := &a
		if one.Is6() {
			place = &a6
		}
		if !ok || place.IsValid() {
			return a, a6, fmt.Errorf("its result has %d addresses; want one IPv4 address, and at most one IPv6", len(r.IPs))
		}
		*place = one
	}
	if !a.IsValid() {
		return a, a6, errors.New("its result has no IPv4 address; want one IPv4 address, and at most one IPv6")
	}
	for _, route := range r.Routes {
		if ones, _ := route.Dst.Mask.Size(); ones != 0 {
			return a, a6, fmt.Errorf("its result has a route to %s; a sandbox has the default route and no other", &route.Dst)
		}
	}
	if len(r.DNS.Nameservers)+len(r.DNS.Search)+len(r.DNS.Options) > 0 || r.DNS.Domain != "" {
		return a, a6, errors.New("its result has DNS settings; a sandbox's resolver is brig's")
	}
	return a, a6, nil
}
