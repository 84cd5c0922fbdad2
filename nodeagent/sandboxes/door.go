package sandboxes

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"brig/internal/sandbox"
	"brig/nodeagent/certificates"
	"brig/nodeagent/clock"
	"brig/nodeagent/quota"
	"brig/nodeagent/record"
	"brig/nodeagent/tunnel"
)

// relistenWait is the pause between tries to come back to a tunnel's port.
const relistenWait = time.Second

// Tunnels is what all tunnels of a node have in common.
type Tunnels struct {
	Pool *tunnel.Pool
	// Shared leads by name; nil if tunnels have none.
	Shared       *tunnel.Shared
	Certificates certificates.Source
}

// door is what this process holds of one tunnel: the tunnel, its port and name, its
// certificate and its part of the owner's quota.
type door struct {
	port  uint16
	open  *tunnel.Tunnel // nil while fault is not
	fault error          // why it does not listen yet
	// release gives back the quota and the certificate.
	release []func()
}

// openTunnels are those of now.
func (k *keeper) openTunnels() (open []*tunnel.Tunnel) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, d := range k.tunnels {
		if d.open != nil {
			open = append(open, d.open)
		}
	}
	return open
}

// listen opens a tunnel on a fresh port, ErrAlreadyExists if the sandbox's port has one.
func (m *Manager) listen(k *keeper, rec *record.Record, p record.Port) (record.Tunnel, error) {
	cfg, err := m.tunnelConfig(k, rec, p)
	if err != nil {
		return record.Tunnel{}, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return record.Tunnel{}, notRunning(k.id)
	}
	if k.tunnels[p.Sandbox] != nil {
		return record.Tunnel{}, errdefs.ErrAlreadyExists
	}
	release, err := m.quota.Take(k.owner, quota.Tunnels, 1)
	if err != nil {
		return record.Tunnel{}, err
	}
	d := &door{release: []func(){release}}
	if d.open, d.port, err = m.tunnels.Pool.OpenRandom(cfg); err == nil {
		err = m.name(d, cfg)
	}
	if err != nil {
		m.shut(d, 0)
		return record.Tunnel{}, err
	}
	k.tunnels[p.Sandbox] = d
	return record.Tunnel{Port: p, Listen: d.port}, nil
}

// name leads the tunnel's name to it, if it has one.
func (m *Manager) name(d *door, cfg tunnel.Config) error {
	if cfg.Name == "" {
		return nil
	}
	if err := m.tunnels.Shared.Add(d.open); err != nil {
		return err // and nothing is wanted: it is tried again and again
	}
	d.release = append(d.release, m.tunnels.Certificates.Want(cfg.Name))
	return nil
}

// relisten comes back to the ports of a sandbox that this process did not make. A
// port that somebody has taken meanwhile is tried again until the sandbox ends.
func (m *Manager) relisten(k *keeper, rec record.Record) {
	for _, t := range rec.Tunnels {
		d := &door{release: []func(){m.quota.Hold(k.owner, quota.Tunnels, 1)}}
		claimed := m.tunnels.Pool.Claim(t.Listen)
		if d.fault = errors.New("another sandbox has its port"); claimed {
			d.port = t.Listen
		}
		k.mu.Lock()
		k.tunnels[t.Sandbox] = d
		k.mu.Unlock()
		err := d.fault
		if claimed {
			err = m.relistenOne(k, &rec, t, d)
		}
		if err == nil {
			continue
		}
		m.log.Error("come back to a tunnel's port", "sandbox", rec.ID, "port", t.Listen, "err", err)
		if claimed {
			m.wg.Go(func() { m.relistenAgain(k, &rec, t, d) })
		}
	}
}

// relistenAgain tries until it succeeds, or there is no reason to.
func (m *Manager) relistenAgain(k *keeper, rec *record.Record, t record.Tunnel, d *door) {
	for !isClosed(k.ended) {
		clock.Pause(m.ctx, relistenWait)
		err := m.relistenOne(k, rec, t, d)
		if err == nil {
			m.log.Info("back at a tunnel's port", "sandbox", rec.ID, "port", t.Listen)
		}
		if err == nil || errors.Is(err, errNothingToDo) || m.ctx.Err() != nil {
			return
		}
	}
}

// relistenOne tries once. errNothingToDo: the tunnel was closed meanwhile.
func (m *Manager) relistenOne(k *keeper, rec *record.Record, t record.Tunnel, d *door) error {
	cfg, err := m.tunnelConfig(k, rec, t.Port)
	if err != nil {
		return err
	}
	cfg.Listen = netip.AddrPortFrom(cfg.Listen.Addr(), t.Listen)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed || k.tunnels[t.Sandbox] != d {
		return errNothingToDo
	}
	if d.open, d.fault = tunnel.Open(cfg); d.fault != nil {
		return d.fault
	}
	if d.fault = m.name(d, cfg); d.fault != nil {
		d.open.Close(0)
		d.open = nil
	}
	return d.fault
}

// tunnelName is the name of a tunnel of its own; empty: it has none. Of its parts a
// tenant chooses the port alone: the id is brigd's, and nobody else's for ever. A tunnel
// of h2 has none where one certificate is for all of them, because browsers would mix up
// sandboxes.
func (m *Manager) tunnelName(id sandbox.ID, p record.Port) string {
	c := m.cfg.Tunnels
	if c.Domain == "" || p.Kind == record.TCP || p.Kind == record.H2 && c.Certificate != "" {
		return ""
	}
	return fmt.Sprintf("%d-%s.%s", p.Sandbox, id, c.Domain)
}

func (m *Manager) tunnelConfig(k *keeper, rec *record.Record, p record.Port) (tunnel.Config, error) {
	bind, err := netip.ParseAddr(m.cfg.Tunnels.Bind)
	if err != nil {
		return tunnel.Config{}, fmt.Errorf("tunnels.bind: %w", err)
	}
	to := netip.AddrPortFrom(rec.Address, p.Sandbox)
	return tunnel.Config{
		Kind:        p.Kind,
		Listen:      netip.AddrPortFrom(bind, 0),
		Host:        strings.ToLower(m.cfg.Tunnels.Advertise),
		Name:        m.tunnelName(rec.ID, p),
		Certificate: m.tunnels.Certificates.Get,
		Admits:      k.admits,
		Dial:        func(ctx context.Context) (net.Conn, error) { return m.network.Dial(ctx, to) },
		Begin:       k.activity.Begin,
		Share:       k.share,
		Log:         m.log.With("sandbox", rec.ID, "port", p.Sandbox),
	}, nil
}

func (m *Manager) unlisten(k *keeper, port uint16) {
	k.mu.Lock()
	d := k.tunnels[port]
	delete(k.tunnels, port)
	k.mu.Unlock()
	if d != nil {
		m.shut(d, 0)
	}
}

// shut takes everything of a door back.
func (m *Manager) shut(d *door, drain time.Duration) {
	if d.open != nil {
		if m.tunnels.Shared != nil {
			m.tunnels.Shared.Remove(d.open)
		}
		d.open.Close(drain)
	}
	if d.port != 0 {
		m.tunnels.Pool.Drop(d.port)
	}
	for _, release := range d.release {
		release()
	}
}

// closeTunnels is final.
func (m *Manager) closeTunnels(k *keeper, drain time.Duration) {
	k.mu.Lock()
	open := k.tunnels
	k.tunnels, k.closed = nil, true
	k.mu.Unlock()
	done := make(chan struct{})
	for _, d := range open {
		go func() { m.shut(d, drain); done <- struct{}{} }()
	}
	for range open {
		<-done
	}
}
