package server

import (
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"brig/internal/netpolicy"
	"brig/internal/sandbox"
	brigv1 "brig/nodeagent/api/brig/v1"
	"brig/nodeagent/engine"
	"brig/nodeagent/record"
)

// This file alone turns messages into values and values into messages.

var states = map[sandbox.State]brigv1.State{
	sandbox.Creating: brigv1.State_STATE_CREATING,
	sandbox.Running:  brigv1.State_STATE_RUNNING,
	sandbox.Exited:   brigv1.State_STATE_EXITED,
}

var reasons = map[sandbox.Reason]brigv1.Reason{
	sandbox.ReasonExited:       brigv1.Reason_REASON_EXITED,
	sandbox.ReasonSignal:       brigv1.Reason_REASON_SIGNAL,
	sandbox.ReasonOOM:          brigv1.Reason_REASON_OOM,
	sandbox.ReasonExecTimeout:  brigv1.Reason_REASON_EXEC_TIMEOUT,
	sandbox.ReasonTimeout:      brigv1.Reason_REASON_TIMEOUT,
	sandbox.ReasonIdleTimeout:  brigv1.Reason_REASON_IDLE_TIMEOUT,
	sandbox.ReasonTerminated:   brigv1.Reason_REASON_TERMINATED,
	sandbox.ReasonStartFailed:  brigv1.Reason_REASON_START_FAILED,
	sandbox.ReasonRuntimeCrash: brigv1.Reason_REASON_RUNTIME_CRASH,
	sandbox.ReasonLost:         brigv1.Reason_REASON_LOST,
}

var kinds = map[brigv1.TunnelKind]record.Kind{
	brigv1.TunnelKind_TUNNEL_KIND_UNSPECIFIED: record.TLS,
	brigv1.TunnelKind_TUNNEL_KIND_TLS:         record.TLS,
	brigv1.TunnelKind_TUNNEL_KIND_H2:          record.H2,
	brigv1.TunnelKind_TUNNEL_KIND_TCP:         record.TCP,
}

var kindsOut = map[record.Kind]brigv1.TunnelKind{
	record.TLS: brigv1.TunnelKind_TUNNEL_KIND_TLS,
	record.H2:  brigv1.TunnelKind_TUNNEL_KIND_H2,
	record.TCP: brigv1.TunnelKind_TUNNEL_KIND_TCP,
}

func invalid(format string, args ...any) error {
	return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(format, args...))
}

// requestOf reads what a create asks for. Meaning is checked by record.Request.
func requestOf(m *brigv1.CreateRequest) (record.Request, error) {
	timeout, err := durationOf("timeout", m.GetTimeout())
	if err != nil {
		return record.Request{}, err
	}
	r := record.Request{
		RequestID: m.GetRequestId(),
		Name:      m.GetName(),
		Image:     m.GetImage(),
		Argv:      m.GetArgv(),
		Env:       m.GetEnv(),
		Workdir:   m.GetWorkdir(),
		Tags:      m.GetTags(),
		Resources: resourcesOf(m.GetResources()),
		Network:   policyOf(m.GetNetwork()),
		Timeout:   timeout,

		Secrets:    m.GetSecrets(),
		Streams:    record.Streams{Stdin: m.GetStdin(), TTY: m.GetTty()},
		Checkpoint: m.GetFromCheckpoint(),
	}
	if r.IdleTimeout, err = durationOf("idle_timeout", m.GetIdleTimeout()); err != nil {
		return record.Request{}, err
	}
	if r.Ready, err = probeOf(m.GetReady()); err != nil {
		return record.Request{}, err
	}
	if r.Size, err = sizeOf(m.GetSize()); err != nil {
		return record.Request{}, err
	}
	r.GPU = gpuOf(m.GetGpu())
	if r.Block, err = blocks(m.GetOverflow(), false); err != nil {
		return record.Request{}, err
	}
	for _, mount := range m.GetMounts() {
		one, err := mountOf(mount)
		if err != nil {
			return record.Request{}, err
		}
		r.Mounts = append(r.Mounts, one)
	}
	for _, p := range m.GetPorts() {
		port, err := portOf(p)
		if err != nil {
			return record.Request{}, err
		}
		r.Ports = append(r.Ports, port)
	}
	return r, nil
}

// durationOf reads a positive duration; absent is zero.
func durationOf(field string, d *durationpb.Duration) (time.Duration, error) {
	if d == nil {
		return 0, nil
	}
	if d.CheckValid() != nil || d.AsDuration() <= 0 {
		return 0, invalid("invalid %s: want a positive duration, such as \"30s\"", field)
	}
	return d.AsDuration(), nil
}

func portOf(p *brigv1.Port) (record.Port, error) {
	if p == nil {
		return record.Port{}, invalid("port is missing: give sandbox_port and kind")
	}
	if n := p.GetSandboxPort(); n < 1 || n > 65535 {
		return record.Port{}, invalid("invalid port %d: want 1 to 65535", n)
	}
	kind, ok := kinds[p.GetKind()]
	if !ok {
		return record.Port{}, invalid("invalid tunnel kind %d: want TUNNEL_KIND_TLS, TUNNEL_KIND_H2 or TUNNEL_KIND_TCP", p.GetKind())
	}
	return record.Port{Sandbox: uint16(p.GetSandboxPort()), Kind: kind}, nil
}

func policyOf(p *brigv1.NetworkPolicy) netpolicy.Spec {
	return netpolicy.Spec{
		BlockNetwork:         p.GetBlockNetwork(),
		CIDRAllowlist:        listOf(p.GetCidrAllowlist()),
		InboundCIDRAllowlist: listOf(p.GetInboundCidrAllowlist()),
		DomainAllowlist:      domainsOf(p.GetDomainAllowlist()),
		DNS:                  p.GetDns(),
	}
}

func policyTo(s netpolicy.Spec) *brigv1.NetworkPolicy {
	m := &brigv1.NetworkPolicy{
		BlockNetwork:         s.BlockNetwork,
		CidrAllowlist:        listTo(s.CIDRAllowlist),
		InboundCidrAllowlist: listTo(s.InboundCIDRAllowlist),
		Dns:                  s.DNS,
	}
	if s.DomainAllowlist != nil {
		m.DomainAllowlist = &brigv1.DomainList{Domains: *s.DomainAllowlist}
	}
	return m
}

func domainsOf(l *brigv1.DomainList) *[]string {
	if l == nil {
		return nil
	}
	list := append([]string{}, l.GetDomains()...)
	return &list
}

// listOf keeps apart a list that is absent and one that is empty.
func listOf(l *brigv1.CidrList) *[]string {
	if l == nil {
		return nil
	}
	list := append([]string{}, l.GetCidrs()...)
	return &list
}

func (s *Server) sandboxTo(r record.Record) *brigv1.Sandbox {
	spec, generation := s.manager.PolicyOf(r)
	m := &brigv1.Sandbox{
		Id:        string(r.ID),
		Name:      r.Request.Name,
		Image:     r.Request.Image,
		Argv:      r.Request.Argv,
		Tags:      r.Request.Tags,
		State:     states[r.State],
		OwnerUid:  r.Owner,
		CreatedAt: timestamppb.New(r.CreatedAt),
		Network:   policyTo(spec),
		Resources: resourcesTo(r.Request.Resources),
		Tunnels:   s.tunnelsTo(r),

		PolicyGeneration: generation,

		Secrets:        r.Request.Secrets.Names(),
		Stdin:          r.Request.Stdin,
		Tty:            r.Request.TTY,
		Paused:         r.Paused,
		FromCheckpoint: r.Request.Checkpoint,
		Usage:          usageTo(s.manager.UsageOf(r)),
		Gpus:           r.GPUs,
	}
	if r.Request.IdleTimeout > 0 {
		m.IdleTimeout = durationpb.New(r.Request.IdleTimeout)
	}
	for _, mount := range r.Request.Mounts {
		m.Mounts = append(m.Mounts, mountTo(mount))
	}
	if r.Exit != nil {
		m.Exit = exitTo(*r.Exit)
	}
	if at, ok := s.manager.RemovedAt(&r); ok {
		m.RemovedAt = timestamppb.New(at)
	}
	if !r.Deadline.Wall.IsZero() {
		m.Deadline = timestamppb.New(r.Deadline.Wall)
	}
	if r.Address.IsValid() {
		m.Address = r.Address.String()
	}
	return m
}

func listTo(l *[]string) *brigv1.CidrList {
	if l == nil {
		return nil
	}
	return &brigv1.CidrList{Cidrs: *l}
}

func exitTo(e record.Exit) *brigv1.Exit {
	return &brigv1.Exit{Code: int32(e.Code), Reason: reasons[e.Reason], At: timestamppb.New(e.At)}
}

func imageTo(i engine.Image) *brigv1.Image {
	return &brigv1.Image{Name: i.Name, Digest: i.Digest, Size: i.Size, CreatedAt: timestamppb.New(i.CreatedAt)}
}
