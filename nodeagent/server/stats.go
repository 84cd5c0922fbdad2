package server

import (
	"context"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	brigv1 "brig/nodeagent/api/brig/v1"
	"brig/nodeagent/record"
	"brig/nodeagent/sandboxes"
	"brig/nodeagent/socket"
)

func (s sandboxService) Stats(ctx context.Context, r *connect.Request[brigv1.StatsRequest]) (*connect.Response[brigv1.StatsResponse], error) {
	uid, err := socket.Peer(ctx)
	if err != nil {
		return nil, err
	}
	var list []record.Record
	if ref := r.Msg.GetSandbox(); ref == "" {
		list, err = s.manager.List(uid, nil, false)
	} else {
		var one record.Record
		one, err = s.manager.Find(uid, ref)
		list = []record.Record{one}
	}
	if err != nil {
		return nil, err
	}
	stats, err := s.manager.Stats(ctx, list)
	if err != nil {
		return nil, err
	}
	answer := &brigv1.StatsResponse{}
	for _, one := range stats {
		answer.Stats = append(answer.Stats, statsTo(one))
	}
	return connect.NewResponse(answer), nil
}

func statsTo(s sandboxes.Stats) *brigv1.SandboxStats {
	return &brigv1.SandboxStats{
		Sandbox: string(s.Record.ID), Name: s.Record.Request.Name, At: timestamppb.New(s.At),
		MemoryBytes: s.Memory, MemoryLimitBytes: s.MemoryLimit, Processes: s.Processes, DiskBytes: s.Disk,
		TunnelConnections: uint32(s.Connections), Execs: uint32(s.Execs), Usage: usageTo(s.Usage),
	}
}

func usageTo(u record.Usage) *brigv1.Usage {
	return &brigv1.Usage{
		CpuNanoseconds: uint64(u.CPU), MemoryMibSeconds: u.MemoryMiBSeconds, GpuSeconds: u.GPUSeconds,
		TunnelBytesIn: u.TunnelIn, TunnelBytesOut: u.TunnelOut,
	}
}
