package command_test

import (
	"context"
	"errors"

	brigv1 "brig/nodeagent/api/brig/v1"
	"connectrpc.com/connect"
)

// WriteInput is for sandboxes whose program is "cat": it writes back what it is sent, and
// ends with its stdin. brigd takes half of a first write and goes away, once, if broken is
// set.
func (n *fakeNode) WriteInput(_ context.Context, req *connect.Request[brigv1.WriteInputRequest]) (*connect.Response[brigv1.WriteInputResponse], error) {
	s, err := n.find(req.Msg.Sandbox)
	if err != nil {
		return nil, err
	}
	if len(s.Argv) != 1 || s.Argv[0] != "cat" {
		return nil, connect.NewError(connect.CodeFailedPrecondition, errors.New("it was made without stdin"))
	}
	n.mu.Lock()
	in := &s.out[brigv1.Channel_CHANNEL_STDOUT]
	size := uint64(len(*in))
	if req.Msg.Offset > size {
		n.mu.Unlock()
		return nil, connect.NewError(connect.CodeOutOfRange, errors.New("a gap"))
	}
	fresh := req.Msg.Data[min(size-req.Msg.Offset, uint64(len(req.Msg.Data))):]
	broken := n.broken && len(fresh) > 1
	if broken {
		n.broken = false
		fresh = fresh[:len(fresh)/2]
	}
	*in = append(*in, fresh...)
	size = uint64(len(*in))
	n.mu.Unlock()
	if broken {
		return nil, connect.NewError(connect.CodeUnavailable, errors.New("brigd is ending: ask again"))
	}
	if req.Msg.Eof {
		s.kill <- 0
	}
	return connect.NewResponse(&brigv1.WriteInputResponse{Offset: size}), nil
}

// ResizeTerminal knows no terminals.
func (n *fakeNode) ResizeTerminal(context.Context, *connect.Request[brigv1.ResizeTerminalRequest]) (*connect.Response[brigv1.ResizeTerminalResponse], error) {
	return nil, connect.NewError(connect.CodeFailedPrecondition, errors.New("it was made without a terminal"))
}
