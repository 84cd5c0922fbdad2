package command_test

import (
	"context"
	"fmt"

	brigv1 "brig/nodeagent/api/brig/v1"
	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

func (n *fakeNode) GetNetworkPolicy(_ context.Context, req *connect.Request[brigv1.GetNetworkPolicyRequest]) (*connect.Response[brigv1.GetNetworkPolicyResponse], error) {
	s, err := n.find(req.Msg.Sandbox)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	res := &brigv1.GetNetworkPolicyResponse{Network: s.Network, Generation: s.PolicyGeneration, Bound: true}
	if s.base != nil {
		res.Lease = &brigv1.PolicyLease{Until: epoch, RevertsTo: s.base, RevertsToGeneration: s.PolicyGeneration - 1}
		res.Denials = map[string]uint64{"policy": 7, "never": 2}
	}
	return connect.NewResponse(res), nil
}

func (n *fakeNode) SetNetworkPolicy(_ context.Context, req *connect.Request[brigv1.SetNetworkPolicyRequest]) (*connect.Response[brigv1.SetNetworkPolicyResponse], error) {
	s, err := n.find(req.Msg.Sandbox)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sets = append(n.sets, proto.CloneOf(req.Msg))
	if e := req.Msg.ExpectedGeneration; e != 0 && e != s.PolicyGeneration {
		return nil, connect.NewError(connect.CodeAborted, fmt.Errorf("generation %d is in force, not %d", s.PolicyGeneration, e))
	}
	var until *timestamppb.Timestamp
	s.base = nil
	if req.Msg.Lease != nil {
		s.base, until = s.Network, epoch
	}
	s.Network = req.Msg.Network
	s.PolicyGeneration++
	return connect.NewResponse(&brigv1.SetNetworkPolicyResponse{Generation: s.PolicyGeneration, Until: until}), nil
}

func (n *fakeNode) ExplainNetwork(_ context.Context, req *connect.Request[brigv1.ExplainNetworkRequest]) (*connect.Response[brigv1.ExplainNetworkResponse], error) {
	if _, err := n.find(req.Msg.Sandbox); err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked = append(n.asked, proto.CloneOf(req.Msg))
	answer := &brigv1.ExplainNetworkResponse{Verdict: brigv1.Verdict_VERDICT_DENY, Rule: "default deny", Generation: 1}
	switch req.Msg.Host {
	case "203.0.113.7":
		answer.Verdict, answer.Rule = brigv1.Verdict_VERDICT_ALLOW, "entry 203.0.113.0/24 of cidr_allowlist"
	case "example.com":
		answer.Verdict, answer.Rule = brigv1.Verdict_VERDICT_UNKNOWN, "ask about the address"
	}
	return connect.NewResponse(answer), nil
}

func (n *fakeNode) Events(_ context.Context, req *connect.Request[brigv1.EventsRequest], stream *connect.ServerStream[brigv1.EventsResponse]) error {
	if req.Msg.Sandbox != "" {
		if _, err := n.find(req.Msg.Sandbox); err != nil {
			return err
		}
	}
	if err := stream.Send(&brigv1.EventsResponse{}); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, e := range n.events {
		if err := stream.Send(&brigv1.EventsResponse{Event: e}); err != nil {
			return err
		}
	}
	return nil
}
