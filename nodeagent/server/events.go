package server

import (
	"context"
	"net/netip"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	brigv1 "brig/nodeagent/api/brig/v1"
	"brig/nodeagent/events"
	"brig/nodeagent/socket"
)

func (s sandboxService) Events(ctx context.Context, r *connect.Request[brigv1.EventsRequest], stream *connect.ServerStream[brigv1.EventsResponse]) error {
	uid, err := socket.Peer(ctx)
	if err != nil {
		return err
	}
	filter := events.Filter{UID: uid}
	if ref := r.Msg.GetSandbox(); ref != "" {
		rec, err := s.find(ctx, ref)
		if err != nil {
			return err
		}
		filter.Sandbox = rec.ID
	}
	listener, err := s.events.Listen(filter)
	if err != nil {
		return err
	}
	defer listener.Close()
	if err := stream.Send(&brigv1.EventsResponse{}); err != nil {
		return err
	}
	for {
		e, err := listener.Next(ctx)
		if err != nil {
			return err
		}
		if err := stream.Send(&brigv1.EventsResponse{Event: eventTo(e)}); err != nil {
			return err
		}
	}
}

func eventTo(e events.Event) *brigv1.Event {
	m := &brigv1.Event{At: timestamppb.New(e.At), Sandbox: string(e.Sandbox)}
	switch {
	case e.Created != nil:
		m.Kind = &brigv1.Event_Created{Created: &brigv1.SandboxCreated{Name: e.Created.Name, Image: e.Created.Image}}
	case e.Exited != nil:
		m.Kind = &brigv1.Event_Exited{Exited: exitTo(*e.Exited)}
	case e.Policy != nil:
		m.Kind = &brigv1.Event_PolicyChanged{PolicyChanged: &brigv1.PolicyChanged{
			Generation: e.Policy.Generation, Until: momentTo(e.Policy.Until), Reverted: e.Policy.Reverted,
		}}
	case e.Denied != nil:
		m.Kind = &brigv1.Event_Denied{Denied: deniedTo(e.Denied)}
	case e.OOM:
		m.Kind = &brigv1.Event_Oom{Oom: &brigv1.SandboxOOM{}}
	case e.Paused:
		m.Kind = &brigv1.Event_Paused{Paused: &brigv1.SandboxPaused{}}
	case e.Resumed:
		m.Kind = &brigv1.Event_Resumed{Resumed: &brigv1.SandboxResumed{}}
	default:
		m.Kind = &brigv1.Event_Missed{Missed: &brigv1.EventsMissed{Count: e.Missed}}
	}
	return m
}

func deniedTo(d *events.Denied) *brigv1.Denied {
	text := func(a netip.Addr) string {
		if !a.IsValid() {
			return ""
		}
		return a.String()
	}
	return &brigv1.Denied{
		Reason: string(d.Reason), Protocol: d.ProtocolName(), Name: d.Name,
		Source: text(d.Src), SourcePort: uint32(d.SrcPort), Destination: text(d.Dst), DestinationPort: uint32(d.DstPort),
		Generation: d.Generation, Count: d.Count, Link: d.Link,
	}
}
