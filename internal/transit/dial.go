package transit

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"brig/internal/config"
	"brig/internal/netns"
)

// Dial connects by TCP from inside the transit namespace. The context bounds it.
func Dial(ctx context.Context, cfg *config.Config, to netip.AddrPort) (net.Conn, error) {
	var conn net.Conn
	// With a literal address the dialer makes its socket on this thread.
	err := netns.Do(Path(cfg), func() (err error) {
		conn, err = new(net.Dialer).DialContext(ctx, "tcp4", to.String())
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("dial %s from %s: %w", to, cfg.TransitName(), err)
	}
	return conn, nil
}

// Listen for TCP inside the transit namespace.
func Listen(ctx context.Context, cfg *config.Config, at netip.AddrPort) (net.Listener, error) {
	var l net.Listener
	err := netns.Do(Path(cfg), func() (err error) {
		l, err = new(net.ListenConfig).Listen(ctx, "tcp4", at.String())
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listen on %s in %s: %w", at, cfg.TransitName(), err)
	}
	return l, nil
}

// ListenPacket for UDP inside the transit namespace.
func ListenPacket(ctx context.Context, cfg *config.Config, at netip.AddrPort) (net.PacketConn, error) {
	var c net.PacketConn
	err := netns.Do(Path(cfg), func() (err error) {
		c, err = new(net.ListenConfig).ListenPacket(ctx, "udp4", at.String())
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listen on %s in %s: %w", at, cfg.TransitName(), err)
	}
	return c, nil
}
