package cni

import (
	"net"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"brig/internal/attachment"
	"brig/internal/netpolicy/nft"
)

// result in CNI's words. The first interface lies in the transit namespace, not in
// the host's, and says so; the name server is brigd's resolver, which answers
// sandboxes whose policy has DNS.
func (a Attachment) result() *types100.Result {
	inSandbox := 1
	scopeLink := 253
	return &types100.Result{
		CNIVersion: types100.ImplementedSpecVersion,
		Interfaces: []*types100.Interface{
			{Name: a.Link, Mac: attachment.GatewayMAC.String(), Mtu: a.MTU, Sandbox: a.Transit},
			{Name: a.IfName, Mac: attachment.MAC(a.Address).String(), Mtu: a.MTU, Sandbox: a.NetNSPath},
		},
		IPs: []*types100.IPConfig{{Interface: &inSandbox, Address: *host(a.Address), Gateway: net.ParseIP(nft.Gateway)}},
		Routes: []*types.Route{
			{Dst: *host(gatewayPrefix.Addr()), Scope: &scopeLink},
			{Dst: net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}, GW: net.ParseIP(nft.Gateway)},
		},
		DNS: types.DNS{Nameservers: []string{nft.Gateway}},
	}
}
