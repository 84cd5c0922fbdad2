package command_test

import (
	"context"
	"fmt"
	"slices"

	brigv1 "brig/nodeagent/api/brig/v1"
	"connectrpc.com/connect"
)

type fakeTunnels struct{ *fakeNode }

func fakeTunnel(p *brigv1.Port) *brigv1.Tunnel {
	scheme := "https"
	if p.Kind == brigv1.TunnelKind_TUNNEL_KIND_TCP {
		scheme = "tcp"
	}
	host := 30000 + p.SandboxPort
	t := &brigv1.Tunnel{
		SandboxPort: p.SandboxPort, Kind: p.Kind, Host: "127.0.0.1", Port: host, Url: fmt.Sprintf("%s://127.0.0.1:%d", scheme, host),
	}
	if p.Kind == brigv1.TunnelKind_TUNNEL_KIND_TCP {
		t.Connections, t.BytesIn, t.BytesOut = 2, 3, 4
	}
	return t
}

func (f fakeTunnels) List(_ context.Context, req *connect.Request[brigv1.TunnelsListRequest]) (*connect.Response[brigv1.TunnelsListResponse], error) {
	s, err := f.find(req.Msg.Sandbox)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return connect.NewResponse(&brigv1.TunnelsListResponse{Tunnels: s.Tunnels}), nil
}

func (f fakeTunnels) Open(_ context.Context, req *connect.Request[brigv1.TunnelsOpenRequest]) (*connect.Response[brigv1.TunnelsOpenResponse], error) {
	s, err := f.find(req.Msg.Sandbox)
	if err != nil {
		return nil, err
	}
	if p := req.Msg.Port.SandboxPort; p == 0 || p > 65535 {
		return nil, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("port %d: want 1 to 65535", p))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	t := fakeTunnel(req.Msg.Port)
	s.Tunnels = append(s.Tunnels, t)
	return connect.NewResponse(&brigv1.TunnelsOpenResponse{Tunnel: t}), nil
}

func (f fakeTunnels) Close(_ context.Context, req *connect.Request[brigv1.TunnelsCloseRequest]) (*connect.Response[brigv1.TunnelsCloseResponse], error) {
	s, err := f.find(req.Msg.Sandbox)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	before := len(s.Tunnels)
	s.Tunnels = slices.DeleteFunc(s.Tunnels, func(t *brigv1.Tunnel) bool {
		return t.SandboxPort == req.Msg.Port.SandboxPort && t.Kind == req.Msg.Port.Kind
	})
	if len(s.Tunnels) == before {
		return nil, connect.NewError(connect.CodeNotFound, fmt.Errorf("no tunnel to port %d", req.Msg.Port.SandboxPort))
	}
	return connect.NewResponse(&brigv1.TunnelsCloseResponse{}), nil
}
