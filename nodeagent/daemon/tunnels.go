package daemon

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/netip"
	"strings"

	"brig/internal/config"
	"brig/nodeagent/certificates"
	"brig/nodeagent/sandboxes"
	"brig/nodeagent/tunnel"
)

// hostsOf are the hosts that the node's CA signs for.
func hostsOf(t config.Tunnels) []string {
	hosts := []string{strings.ToLower(t.Advertise)}
	if t.Domain != "" {
		hosts = append(hosts, t.Domain)
	}
	return hosts
}

// openTunnels makes what all tunnels have in common. The shared port is served from now
// on, before the first certificate is asked for: authorities look there.
func (d *daemon) openTunnels(ctx context.Context) (sandboxes.Tunnels, error) {
	c := d.Config.Tunnels
	log := d.Log.With("component", "tunnels")
	limits, err := tunnel.Limits{
		Node: int(c.Limits.Connections), Sandbox: int(c.Limits.PerSandbox), Tunnel: int(c.Limits.PerTunnel), Source: int(c.Limits.PerSource),
	}.Afford()
	if err != nil {
		return sandboxes.Tunnels{}, err
	}
	source, err := certificates.Open(ctx, d.Config, d.ca, log)
	if err != nil {
		return sandboxes.Tunnels{}, fmt.Errorf("open the certificates of tunnels: %w", err)
	}
	common := sandboxes.Tunnels{Pool: tunnel.NewPool(limits), Certificates: source}
	if c.SharedPort != 0 {
		bind, err := netip.ParseAddr(c.Bind)
		if err != nil {
			return common, fmt.Errorf("tunnels.bind: %w", err)
		}
		var challenge func(*tls.ClientHelloInfo) (*tls.Certificate, error)
		if c.ACME.Directory != "" {
			challenge = source.Challenge
		}
		common.Shared = tunnel.NewShared(netip.AddrPortFrom(bind, c.SharedPort), limits, challenge, log)
		d.goWork(func() { common.Shared.Keep(ctx) })
	}
	// For as long as brigd lives.
	_ = source.Want(strings.ToLower(c.Advertise))
	return common, nil
}
