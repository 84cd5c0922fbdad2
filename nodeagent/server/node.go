package server

import (
	"context"

	"connectrpc.com/connect"
	"github.com/containerd/errdefs"

	"brig/internal/version"
	brigv1 "brig/nodeagent/api/brig/v1"
	"brig/nodeagent/api/brig/v1/brigv1connect"
	"brig/nodeagent/checkpoints"
	"brig/nodeagent/quota"
	"brig/nodeagent/socket"
)

type nodeService struct {
	*Server
	brigv1connect.UnimplementedNodeHandler
}

func (s nodeService) Info(ctx context.Context, _ *connect.Request[brigv1.InfoRequest]) (*connect.Response[brigv1.InfoResponse], error) {
	uid, err := socket.Peer(ctx)
	if err != nil {
		return nil, err
	}
	host, err := checkpoints.ThisHost(ctx, s.cfg.Runsc.Path)
	if err != nil {
		return nil, err
	}
	pool, err := s.pool(ctx)
	if err != nil {
		return nil, err
	}
	known, list := s.manager.GPUsFor(uid)
	return connect.NewResponse(&brigv1.InfoResponse{
		Node:                s.cfg.Node,
		Version:             version.Version,
		RunscVersion:        host.Runsc,
		ContainerdAddress:   s.cfg.Containerd.Address,
		ContainerdNamespace: s.cfg.Containerd.Namespace,
		AddressPool:         pool,
		Running:             uint32(s.manager.Running()),
		Platform:            s.cfg.Runsc.Platform,
		Quota:               quotaTo(s.manager.Quota(), uid),
		Waiting:             uint32(s.manager.Waiting()),
		Gpus:                gpusTo(list),
		GpuDriver:           known.Driver,
		GpuUnavailable:      known.Unavailable,
	}), nil
}

func quotaTo(l *quota.Ledger, uid uint32) *brigv1.Quota {
	used := l.Used(uid)
	limit := func(k quota.Kind) uint64 { return l.Limit(uid, k) }
	return &brigv1.Quota{
		Sandboxes: uint32(used[quota.Sandboxes]), SandboxesLimit: uint32(limit(quota.Sandboxes)),
		Execs: uint32(used[quota.Execs]), ExecsLimit: uint32(limit(quota.Execs)),
		Tunnels: uint32(used[quota.Tunnels]), TunnelsLimit: uint32(limit(quota.Tunnels)),
		MemoryMib: used[quota.MemoryMiB], MemoryMibLimit: limit(quota.MemoryMiB),
		Cpu: float64(used[quota.MilliCPU]) / 1000, CpuLimit: float64(limit(quota.MilliCPU)) / 1000,
		Images: uint32(used[quota.Images]), ImagesLimit: uint32(limit(quota.Images)),
		Gpus: uint32(used[quota.GPUs]), GpusLimit: uint32(limit(quota.GPUs)),
	}
}

func (s nodeService) CA(context.Context, *connect.Request[brigv1.CARequest]) (*connect.Response[brigv1.CAResponse], error) {
	return connect.NewResponse(&brigv1.CAResponse{Pem: string(s.ca.PEM()), Path: s.ca.Path()}), nil
}

func (s nodeService) Verify(ctx context.Context, _ *connect.Request[brigv1.VerifyRequest]) (*connect.Response[brigv1.VerifyResponse], error) {
	if uid, err := socket.Peer(ctx); err != nil || uid != 0 {
		return nil, errdefs.ErrPermissionDenied.WithMessage("only root may see everything that the node holds")
	}
	r, err := s.verify(ctx)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&brigv1.VerifyResponse{Differences: r.Differences, Census: r.Census}), nil
}
