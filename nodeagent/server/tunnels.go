package server

import (
	"cmp"
	"context"
	"net"
	"slices"
	"strconv"

	"connectrpc.com/connect"

	brigv1 "brig/nodeagent/api/brig/v1"
	"brig/nodeagent/record"
)

type tunnelService struct{ *Server }

func (s tunnelService) Open(ctx context.Context, r *connect.Request[brigv1.TunnelsOpenRequest]) (*connect.Response[brigv1.TunnelsOpenResponse], error) {
	rec, err := s.find(ctx, r.Msg.GetSandbox())
	if err != nil {
		return nil, err
	}
	port, err := portOf(r.Msg.GetPort())
	if err != nil {
		return nil, err
	}
	t, err := s.manager.OpenTunnel(rec, port)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&brigv1.TunnelsOpenResponse{Tunnel: s.tunnelTo(t)}), nil
}

func (s tunnelService) List(ctx context.Context, r *connect.Request[brigv1.TunnelsListRequest]) (*connect.Response[brigv1.TunnelsListResponse], error) {
	rec, err := s.find(ctx, r.Msg.GetSandbox())
	if err != nil {
		return nil, err
	}
	slices.SortFunc(rec.Tunnels, func(a, b record.Tunnel) int { return cmp.Compare(a.Sandbox, b.Sandbox) })
	return connect.NewResponse(&brigv1.TunnelsListResponse{Tunnels: s.tunnelsTo(rec.Tunnels)}), nil
}

func (s tunnelService) Close(ctx context.Context, r *connect.Request[brigv1.TunnelsCloseRequest]) (*connect.Response[brigv1.TunnelsCloseResponse], error) {
	rec, err := s.find(ctx, r.Msg.GetSandbox())
	if err != nil {
		return nil, err
	}
	port, err := portOf(r.Msg.GetPort())
	if err != nil {
		return nil, err
	}
	if err := s.manager.CloseTunnel(rec, port); err != nil {
		return nil, err
	}
	return connect.NewResponse(&brigv1.TunnelsCloseResponse{}), nil
}

func (s *Server) tunnelTo(t record.Tunnel) *brigv1.Tunnel {
	scheme := "https"
	if t.Kind == record.TCP {
		scheme = "tcp"
	}
	host := s.cfg.Tunnels.Advertise
	return &brigv1.Tunnel{
		SandboxPort: uint32(t.Sandbox),
		Kind:        kindsOut[t.Kind],
		Host:        host,
		Port:        uint32(t.Listen),
		Url:         scheme + "://" + net.JoinHostPort(host, strconv.Itoa(int(t.Listen))),
	}
}
