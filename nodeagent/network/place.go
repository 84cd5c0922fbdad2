package network

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"brig/internal/config"
	"brig/internal/netns"
	"brig/internal/transit"
)

// Transit is the node's transit namespace as a place to listen in.
type Transit struct {
	Config *config.Config
	// Address to listen at, TCP and UDP.
	Address netip.AddrPort
}

// Identity changes when the namespace is another one.
func (t Transit) Identity() (string, error) {
	id, err := netns.ID(transit.Path(t.Config))
	if err != nil {
		return "", err
	}
	return fmt.Sprint(id), nil
}

// Do runs fn on a thread of the namespace, for the sockets that it makes.
func (t Transit) Do(fn func() error) error { return netns.Do(transit.Path(t.Config), fn) }

// ListenPacket listens for datagrams.
func (t Transit) ListenPacket(ctx context.Context) (net.PacketConn, error) {
	return transit.ListenPacket(ctx, t.Config, t.Address)
}

// Listen listens for connections.
func (t Transit) Listen(ctx context.Context) (net.Listener, error) {
	return transit.Listen(ctx, t.Config, t.Address)
}
