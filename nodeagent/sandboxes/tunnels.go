package sandboxes

import (
	"fmt"
	"slices"

	"github.com/containerd/errdefs"

	"brig/internal/sandbox"
	"brig/nodeagent/record"
)

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
func (m *Manager) OpenTunnel(rec record.Record, p record.Port) (Tunnel, error) {
	t, err := m.openTunnel(rec, p)
	if err != nil {
		return Tunnel{}, err
	}
	return m.tunnelOf(m.keeper(rec.ID), rec.ID, t), nil
}

func (m *Manager) openTunnel(rec record.Record, p record.Port) (record.Tunnel, error) {
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
	if k := m.keeper(rec.ID); k != nil {
		m.unlisten(k, p.Sandbox)
	}
	return nil
}

// Tunnel is one as it is now.
type Tunnel struct {
	record.Tunnel
	// Host and Port that clients are told. They are Listen's, or those of a name.
	Host string
	At   uint16
	// Connections that are open, and bytes since it was opened or brigd started.
	Connections int
	In, Out     uint64
	// Fault is why nobody is led through it at present; nil: it listens.
	Fault error
}

// Tunnels of a sandbox, in the record's order.
func (m *Manager) Tunnels(rec record.Record) []Tunnel {
	k := m.keeper(rec.ID)
	all := make([]Tunnel, 0, len(rec.Tunnels))
	for _, t := range rec.Tunnels {
		all = append(all, m.tunnelOf(k, rec.ID, t))
	}
	return all
}

func (m *Manager) tunnelOf(k *keeper, id sandbox.ID, r record.Tunnel) Tunnel {
	t := Tunnel{Tunnel: r, Host: m.cfg.Tunnels.Advertise, At: r.Listen}
	if name := m.tunnelName(id, r.Port); name != "" {
		t.Host, t.At = name, m.cfg.Tunnels.SharedPort
	}
	if k == nil {
		return t
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if d := k.tunnels[r.Sandbox]; d != nil {
		t.Fault = d.fault
		if d.open != nil {
			t.Connections, t.In, t.Out = d.open.Counters()
		}
	}
	return t
}

// TunnelBytes that came in and went out through all tunnels of a sandbox since it was
// made, or brigd started; those that were closed are counted, too.
func (m *Manager) TunnelBytes(id sandbox.ID) (in, out uint64) {
	if k := m.keeper(id); k != nil {
		return k.share.Bytes()
	}
	return 0, 0
}
