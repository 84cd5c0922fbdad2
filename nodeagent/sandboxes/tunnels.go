package sandboxes

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/containerd/errdefs"

	"brig/internal/failpoint"
	"brig/internal/sandbox"
	"brig/nodeagent/record"
	"brig/nodeagent/tunnel"
)

// relistenWait is the pause between tries to come back to a tunnel's port.
const relistenWait = time.Second

// openAll opens the tunnels that a new sandbox was asked for.
func (m *Manager) openAll(k *keeper, rec *record.Record) ([]record.Tunnel, error) {
	var open []record.Tunnel
	for _, p := range rec.Request.Ports {
		t, err := m.listen(k, rec, p)
		if err != nil {
			return nil, err
		}
		open = append(open, t)
	}
	return open, nil
}

// OpenTunnel adds a tunnel to a running sandbox, or returns the one that is there.
func (m *Manager) OpenTunnel(rec record.Record, p record.Port) (record.Tunnel, error) {
	k, err := m.running(rec.ID)
	if err != nil {
		return record.Tunnel{}, err
	}
	if !rec.Address.IsValid() {
		return record.Tunnel{}, errdefs.ErrFailedPrecondition.WithMessage("Cannot specify open ports when block_network is enabled; use an empty cidr_allowlist")
	}
	t, err := m.listen(k, &rec, p)
	if errdefs.IsAlreadyExists(err) {
		return m.openAlready(rec.ID, p)
	}
	if err != nil {
		return record.Tunnel{}, err
	}
	failpoint.Hit("open.listening")
	_, err = m.store.Update(rec.ID, func(r *record.Record) error {
		if r.State != sandbox.Running {
			return notRunning(r.ID)
		}
		if len(r.Tunnels) >= record.MaxPorts {
			return errdefs.ErrResourceExhausted.WithMessage(fmt.Sprintf("sandbox %s has %d tunnels: close one first", r.ID, len(r.Tunnels)))
		}
		r.Tunnels = append(r.Tunnels, t)
		return nil
	})
	if err != nil {
		m.unlisten(k, p.Sandbox)
		return record.Tunnel{}, err
	}
	failpoint.Hit("open.recorded")
	return t, nil
}

func (m *Manager) openAlready(id sandbox.ID, p record.Port) (record.Tunnel, error) {
	rec, err := m.store.Get(id)
	if err != nil {
		return record.Tunnel{}, err
	}
	t, ok := rec.Tunnel(p.Sandbox)
	if !ok {
		return record.Tunnel{}, errdefs.ErrUnavailable.WithMessage(fmt.Sprintf("the tunnel to port %d is being opened: ask again", p.Sandbox))
	}
	if t.Kind != p.Kind {
		return record.Tunnel{}, errdefs.ErrAlreadyExists.WithMessage(fmt.Sprintf("port %d has a tunnel of kind %s: close that one first", p.Sandbox, t.Kind))
	}
	return t, nil
}

// CloseTunnel removes a tunnel and cuts its connections.
func (m *Manager) CloseTunnel(rec record.Record, p record.Port) error {
	missing := errdefs.ErrNotFound.WithMessage(fmt.Sprintf("sandbox %s has no %s tunnel to port %d", rec.ID, p.Kind, p.Sandbox))
	_, err := m.store.Update(rec.ID, func(r *record.Record) error {
		i := slices.IndexFunc(r.Tunnels, func(t record.Tunnel) bool { return t.Port == p })
		if i < 0 {
			return missing
		}
		r.Tunnels = slices.Delete(r.Tunnels, i, i+1)
		return nil
	})
	if err != nil {
		return err
	}
	failpoint.Hit("close.recorded")
	if k := m.keeper(rec.ID); k != nil {
		m.unlisten(k, p.Sandbox)
	}
	failpoint.Hit("close.closed")
	return nil
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
	t, port, err := tunnel.OpenRandom(cfg)
	if err != nil {
		return record.Tunnel{}, err
	}
	k.tunnels[p.Sandbox] = t
	return record.Tunnel{Port: p, Listen: port}, nil
}

// relisten comes back to the ports of a sandbox that this process did not make. A
// port that somebody has taken meanwhile is tried again until the sandbox ends.
func (m *Manager) relisten(k *keeper, rec record.Record) {
	for _, t := range rec.Tunnels {
		if err := m.relistenOne(k, &rec, t); err != nil {
			m.log.Warn("come back to a tunnel's port", "sandbox", rec.ID, "port", t.Listen, "err", err)
			m.wg.Go(func() {
				for err != nil && m.ctx.Err() == nil && !isClosed(k.ended) {
					sleep(m.ctx, relistenWait)
					err = m.relistenOne(k, &rec, t)
				}
			})
		}
	}
}

func (m *Manager) relistenOne(k *keeper, rec *record.Record, t record.Tunnel) error {
	cfg, err := m.tunnelConfig(k, rec, t.Port)
	if err != nil {
		return err
	}
	cfg.Listen = netip.AddrPortFrom(cfg.Listen.Addr(), t.Listen)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed || k.tunnels[t.Sandbox] != nil {
		return nil
	}
	open, err := tunnel.Open(cfg)
	if err != nil {
		return err
	}
	k.tunnels[t.Sandbox] = open
	return nil
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
		Admits:      k.admits,
		Dial:        func(ctx context.Context) (net.Conn, error) { return m.network.Dial(ctx, to) },
		Certificate: m.ca.Leaf,
		Log:         m.log.With("sandbox", rec.ID, "port", p.Sandbox),
	}, nil
}

func (m *Manager) unlisten(k *keeper, port uint16) {
	k.mu.Lock()
	t := k.tunnels[port]
	delete(k.tunnels, port)
	k.mu.Unlock()
	if t != nil {
		t.Close(0)
	}
}

// closeTunnels is final.
func (m *Manager) closeTunnels(k *keeper, drain time.Duration) {
	k.mu.Lock()
	open := k.tunnels
	k.tunnels, k.closed = nil, true
	k.mu.Unlock()
	done := make(chan struct{})
	for _, t := range open {
		go func() { t.Close(drain); done <- struct{}{} }()
	}
	for range open {
		<-done
	}
}
