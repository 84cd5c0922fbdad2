package server

import (
	"math"

	brigv1 "brig/nodeagent/api/brig/v1"
	"brig/nodeagent/record"
)

func resourcesOf(m *brigv1.Resources) record.Resources {
	return record.Resources{
		CPU: m.GetCpu(), MemoryMiB: m.GetMemoryMib(),
		CPURequest: m.GetCpuRequest(), MemoryRequestMiB: m.GetMemoryRequestMib(),
		PIDs: m.GetPids(), DiskMiB: m.GetDiskMib(),
	}
}

func resourcesTo(r record.Resources) *brigv1.Resources {
	return &brigv1.Resources{
		Cpu: r.CPU, MemoryMib: r.MemoryMiB, CpuRequest: r.CPURequest, MemoryRequestMib: r.MemoryRequestMiB,
		Pids: r.PIDs, DiskMib: r.DiskMiB,
	}
}

func probeOf(m *brigv1.ReadyProbe) (*record.Probe, error) {
	if m == nil {
		return nil, nil
	}
	var p record.Probe
	var err error
	if p.Timeout, err = durationOf("ready.timeout", m.GetTimeout()); err != nil {
		return nil, err
	}
	if p.Interval, err = durationOf("ready.interval", m.GetInterval()); err != nil {
		return nil, err
	}
	switch probe := m.GetProbe().(type) {
	case *brigv1.ReadyProbe_TcpPort:
		if probe.TcpPort < 1 || probe.TcpPort > 65535 {
			return nil, invalid("invalid ready.tcp_port %d: want 1 to 65535", probe.TcpPort)
		}
		p.Port = uint16(probe.TcpPort)
	case *brigv1.ReadyProbe_Exec:
		if p.Argv = probe.Exec.GetArgv(); len(p.Argv) == 0 {
			return nil, invalid("ready.exec.argv is empty: name a program to run")
		}
	default:
		return nil, invalid("ready says nothing: give tcp_port or exec")
	}
	return &p, nil
}

func sizeOf(m *brigv1.WindowSize) (record.Size, error) {
	if m.GetColumns() > math.MaxUint16 || m.GetRows() > math.MaxUint16 {
		return record.Size{}, invalid("invalid size %d x %d: at most 65535 each", m.GetColumns(), m.GetRows())
	}
	return record.Size{Columns: uint16(m.GetColumns()), Rows: uint16(m.GetRows())}, nil
}

// blocks tells what becomes of output that nobody reads; unspecified is for the call to say.
func blocks(o brigv1.Overflow, unspecified bool) (bool, error) {
	switch o {
	case brigv1.Overflow_OVERFLOW_UNSPECIFIED:
		return unspecified, nil
	case brigv1.Overflow_OVERFLOW_DROP_OLDEST:
		return false, nil
	case brigv1.Overflow_OVERFLOW_BLOCK:
		return true, nil
	}
	return false, invalid("invalid overflow %d: want OVERFLOW_DROP_OLDEST or OVERFLOW_BLOCK", o)
}

func mountOf(m *brigv1.Mount) (record.Mount, error) {
	one := record.Mount{Target: m.GetTarget()}
	switch source := m.GetSource().(type) {
	case *brigv1.Mount_Bind:
		if source.Bind.GetSource() == "" {
			return one, invalid("mount %q: bind.source is empty", m.GetTarget())
		}
		one.Source, one.Writable = source.Bind.GetSource(), source.Bind.GetWritable()
	case *brigv1.Mount_Tmpfs:
		one.Writable, one.SizeMiB = true, source.Tmpfs.GetSizeMib()
	default:
		return one, invalid("mount %q has no source: give bind or tmpfs", m.GetTarget())
	}
	return one, nil
}

func mountTo(m record.Mount) *brigv1.Mount {
	if m.Source == "" {
		return &brigv1.Mount{Target: m.Target, Source: &brigv1.Mount_Tmpfs{Tmpfs: &brigv1.TmpfsMount{SizeMib: m.SizeMiB}}}
	}
	return &brigv1.Mount{Target: m.Target, Source: &brigv1.Mount_Bind{Bind: &brigv1.BindMount{Source: m.Source, Writable: m.Writable}}}
}
