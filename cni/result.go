package cni

import (
	"net/netip"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"golang.org/x/sys/unix"

	"brig/internal/attachment"
	"brig/internal/netpolicy/nft"
)

// result in CNI's words. The first interface lies in the transit namespace, not in
// the host's, and says so; the name server is brigd's resolver, which answers
// sandboxes whose policy has DNS.
func (a Attachment) result() *types100.Result {
	r := &types100.Result{
		CNIVersion: types100.ImplementedSpecVersion,
		Interfaces: []*types100.Interface{
			{Name: a.Link, Mac: attachment.GatewayMAC.String(), Mtu: a.MTU, Sandbox: a.Transit},
			{Name: a.IfName, Mac: attachment.MAC(a.Address).String(), Mtu: a.MTU, Sandbox: a.NetNSPath},
		},
		DNS: types.DNS{Nameservers: []string{nft.Gateway}},
	}
	inSandbox, onLink := 1, unix.RT_SCOPE_LINK
	for _, address := range addresses(a.Lease) {
		gateway := gatewayOf(address)
		everywhere := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if address.Is6() {
			everywhere = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		r.IPs = append(r.IPs, &types100.IPConfig{Interface: &inSandbox, Address: *host(address), Gateway: gateway.AsSlice()})
		r.Routes = append(r.Routes, &types.Route{Dst: *host(gateway), Scope: &onLink}, &types.Route{Dst: *ipNet(everywhere), GW: gateway.AsSlice()})
	}
	return r
}
