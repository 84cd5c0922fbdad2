package server

import (
	"cmp"
	"context"
	"net"
	"slices"
	"strconv"
	"strings"

	"connectrpc.com/connect"

	brigv1 "brig/nodeagent/api/brig/v1"
	"brig/nodeagent/record"
	"brig/nodeagent/sandboxes"
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
	return connect.NewResponse(&brigv1.TunnelsOpenResponse{Tunnel: tunnelTo(t)}), nil
}

func (s tunnelService) List(ctx context.Context, r *connect.Request[brigv1.TunnelsListRequest]) (*connect.Response[brigv1.TunnelsListResponse], error) {
	rec, err := s.find(ctx, r.Msg.GetSandbox())
	if err != nil {
		return nil, err
	}
	slices.SortFunc(rec.Tunnels, func(a, b record.Tunnel) int { return cmp.Compare(a.Sandbox, b.Sandbox) })
	return connect.NewResponse(&brigv1.TunnelsListResponse{Tunnels: s.tunnelsTo(rec)}), nil
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

func (s *Server) tunnelsTo(rec record.Record) (out []*brigv1.Tunnel) {
	for _, t := range s.manager.Tunnels(rec) {
		out = append(out, tunnelTo(t))
	}
	return out
}

func tunnelTo(t sandboxes.Tunnel) *brigv1.Tunnel {
	m := &brigv1.Tunnel{
		SandboxPort: uint32(t.Sandbox),
		Kind:        kindsOut[t.Kind],
		Host:        t.Host,
		Port:        uint32(t.At),
		Url:         urlOf(t),
		Connections: uint32(t.Connections),
		BytesIn:     t.In,
		BytesOut:    t.Out,
	}
	if t.Fault != nil {
		m.Fault = t.Fault.Error()
	}
	return m
}

func urlOf(t sandboxes.Tunnel) string {
	at := net.JoinHostPort(t.Host, strconv.Itoa(int(t.At)))
	switch {
	case t.Kind == record.TCP:
		return "tcp://" + at
	case t.At == 443:
		return "https://" + strings.TrimSuffix(at, ":443")
	}
	return "https://" + at
}
