package command_test

import (
	"context"
	"errors"
	"fmt"
	"slices"

	brigv1 "brig/nodeagent/api/brig/v1"
	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
)

func (n *fakeNode) Create(_ context.Context, req *connect.Request[brigv1.CreateRequest]) (*connect.Response[brigv1.CreateResponse], error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	m := req.Msg
	n.creates = append(n.creates, proto.CloneOf(m))
	if !slices.ContainsFunc(n.images, func(i *brigv1.Image) bool { return i.Name == fullName(m.Image) }) {
		return nil, connect.NewError(connect.CodeNotFound, fmt.Errorf("no image %q", m.Image))
	}
	if m.Network.GetBlockNetwork() && len(m.Ports) > 0 {
		return nil, connect.NewError(connect.CodeInvalidArgument,
			errors.New("Cannot specify open ports when block_network is enabled; use an empty cidr_allowlist"))
	}
	s := &fakeSandbox{
		Sandbox: &brigv1.Sandbox{
			Id: fmt.Sprintf("sb-%016d", len(n.sandboxes)+1), Name: m.Name, Image: fullName(m.Image), Argv: m.Argv, Tags: m.Tags,
			State: brigv1.State_STATE_RUNNING, CreatedAt: epoch, Network: m.Network, Resources: m.Resources, Address: "10.88.0.2", PolicyGeneration: 1,
		},
		ended: make(chan struct{}), kill: make(chan int32, 8),
	}
	for _, p := range m.Ports {
		s.Tunnels = append(s.Tunnels, fakeTunnel(p))
	}
	n.sandboxes = append(n.sandboxes, s)
	go s.live(n)
	return connect.NewResponse(&brigv1.CreateResponse{Sandbox: proto.CloneOf(s.Sandbox)}), nil
}

// live is the program: "say OUT ERR CODE" writes and ends, anything else runs
// until it is killed.
func (s *fakeSandbox) live(n *fakeNode) {
	exit := &brigv1.Exit{Reason: brigv1.Reason_REASON_TERMINATED, At: epoch}
	if len(s.Argv) == 4 && s.Argv[0] == "say" {
		n.mu.Lock()
		s.out[brigv1.Channel_CHANNEL_STDOUT] = []byte(s.Argv[1])
		s.out[brigv1.Channel_CHANNEL_STDERR] = []byte(s.Argv[2])
		n.mu.Unlock()
		exit.Reason = brigv1.Reason_REASON_EXITED
		exit.Code = number(s.Argv[3])
	} else {
		exit.Code = <-s.kill
	}
	n.mu.Lock()
	s.State, s.Exit, s.Tunnels = brigv1.State_STATE_EXITED, exit, nil
	n.mu.Unlock()
	close(s.ended)
}

func (n *fakeNode) Get(_ context.Context, req *connect.Request[brigv1.GetRequest]) (*connect.Response[brigv1.GetResponse], error) {
	s, err := n.find(req.Msg.Sandbox)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return connect.NewResponse(&brigv1.GetResponse{Sandbox: proto.CloneOf(s.Sandbox)}), nil
}

func (n *fakeNode) List(_ context.Context, req *connect.Request[brigv1.ListRequest]) (*connect.Response[brigv1.ListResponse], error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	res := &brigv1.ListResponse{}
	for _, s := range n.sandboxes {
		match := req.Msg.All || s.State == brigv1.State_STATE_RUNNING
		for k, v := range req.Msg.Tags {
			match = match && s.Tags[k] == v
		}
		if match {
			res.Sandboxes = append(res.Sandboxes, proto.CloneOf(s.Sandbox))
		}
	}
	return connect.NewResponse(res), nil
}

func (n *fakeNode) Wait(ctx context.Context, req *connect.Request[brigv1.WaitRequest]) (*connect.Response[brigv1.WaitResponse], error) {
	s, err := n.find(req.Msg.Sandbox)
	if err != nil {
		return nil, err
	}
	select {
	case <-s.ended:
		return connect.NewResponse(&brigv1.WaitResponse{Exit: s.Exit}), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (n *fakeNode) Terminate(_ context.Context, req *connect.Request[brigv1.TerminateRequest]) (*connect.Response[brigv1.TerminateResponse], error) {
	s, err := n.find(req.Msg.Sandbox)
	if err != nil {
		return nil, err
	}
	code := int32(137)
	if req.Msg.Grace != nil {
		code = 143
	}
	s.kill <- code
	<-s.ended
	return connect.NewResponse(&brigv1.TerminateResponse{Exit: s.Exit}), nil
}

func (n *fakeNode) Remove(ctx context.Context, req *connect.Request[brigv1.RemoveRequest]) (*connect.Response[brigv1.RemoveResponse], error) {
	s, err := n.find(req.Msg.Sandbox)
	if err != nil {
		return nil, err
	}
	if req.Msg.Force {
		s.kill <- 137
	} else {
		select {
		case <-s.ended:
		default:
			return nil, connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("%s is running", s.Id))
		}
	}
	<-s.ended
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sandboxes = slices.DeleteFunc(n.sandboxes, func(o *fakeSandbox) bool { return o == s })
	return connect.NewResponse(&brigv1.RemoveResponse{}), nil
}

func (n *fakeNode) ReadOutput(ctx context.Context, req *connect.Request[brigv1.ReadOutputRequest], stream *connect.ServerStream[brigv1.ReadOutputResponse]) error {
	s, err := n.find(req.Msg.Sandbox)
	if err != nil {
		return err
	}
	offsets := [3]uint64{0, req.Msg.StdoutOffset, req.Msg.StderrOffset}
	flush := func() error {
		for channel := 1; channel <= 2; channel++ {
			n.mu.Lock()
			data := s.out[channel][offsets[channel]:]
			n.mu.Unlock()
			// Small pieces, so that nobody relies on large ones.
			for piece := range slices.Chunk(data, 3) {
				err := stream.Send(&brigv1.ReadOutputResponse{Channel: brigv1.Channel(channel), Offset: offsets[channel], Data: piece})
				if err != nil {
					return err
				}
				offsets[channel] += uint64(len(piece))
			}
		}
		return nil
	}
	if req.Msg.Follow {
		if err := flush(); err != nil {
			return err
		}
		select {
		case <-s.ended:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return flush()
}
