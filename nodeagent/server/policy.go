package server

import (
	"context"
	"net/netip"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	brigv1 "brig/nodeagent/api/brig/v1"
	"brig/nodeagent/explain"
	"brig/nodeagent/sandboxes"
)

func (s sandboxService) GetNetworkPolicy(ctx context.Context, r *connect.Request[brigv1.GetNetworkPolicyRequest]) (*connect.Response[brigv1.GetNetworkPolicyResponse], error) {
	rec, err := s.find(ctx, r.Msg.GetSandbox())
	if err != nil {
		return nil, err
	}
	p, err := s.manager.Policy(rec)
	if err != nil {
		return nil, err
	}
	answer := &brigv1.GetNetworkPolicyResponse{Network: policyTo(p.Spec), Generation: p.Generation, Bound: p.Bound}
	if !p.Until.IsZero() {
		answer.Lease = &brigv1.PolicyLease{
			Until: timestamppb.New(p.Until), RevertsTo: policyTo(p.Base), RevertsToGeneration: p.BaseGeneration,
		}
	}
	if len(p.Denials) > 0 {
		answer.Denials = map[string]uint64{}
		for reason, n := range p.Denials {
			answer.Denials[string(reason)] = n
		}
	}
	return connect.NewResponse(answer), nil
}

func (s sandboxService) SetNetworkPolicy(ctx context.Context, r *connect.Request[brigv1.SetNetworkPolicyRequest]) (*connect.Response[brigv1.SetNetworkPolicyResponse], error) {
	rec, err := s.find(ctx, r.Msg.GetSandbox())
	if err != nil {
		return nil, err
	}
	if r.Msg.GetNetwork() == nil {
		return nil, invalid("network is missing: give the whole policy, {} for an open one")
	}
	lease, err := durationOf("lease", r.Msg.GetLease())
	if err != nil {
		return nil, err
	}
	p, err := s.manager.SetPolicy(ctx, rec, sandboxes.Change{
		Spec: policyOf(r.Msg.GetNetwork()), Expected: r.Msg.GetExpectedGeneration(), Lease: lease,
	})
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&brigv1.SetNetworkPolicyResponse{Generation: p.Generation, Until: momentTo(p.Until)}), nil
}

var verdicts = map[explain.Verdict]brigv1.Verdict{
	explain.Allow:   brigv1.Verdict_VERDICT_ALLOW,
	explain.Deny:    brigv1.Verdict_VERDICT_DENY,
	explain.Unknown: brigv1.Verdict_VERDICT_UNKNOWN,
}

func (s sandboxService) ExplainNetwork(ctx context.Context, r *connect.Request[brigv1.ExplainNetworkRequest]) (*connect.Response[brigv1.ExplainNetworkResponse], error) {
	rec, err := s.find(ctx, r.Msg.GetSandbox())
	if err != nil {
		return nil, err
	}
	q, err := questionOf(r.Msg)
	if err != nil {
		return nil, err
	}
	a, err := s.manager.Explain(ctx, rec, q)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&brigv1.ExplainNetworkResponse{Verdict: verdicts[a.Verdict], Rule: a.Rule, Generation: a.Generation}), nil
}

// defaultPort of a name is that of domain_allowlist.
const defaultPort = 443

func questionOf(m *brigv1.ExplainNetworkRequest) (explain.Question, error) {
	q := explain.Question{Protocol: m.GetProtocol(), Port: uint16(m.GetPort())}
	switch q.Protocol {
	case "":
		q.Protocol = "tcp"
	case "tcp", "udp", "icmp":
	default:
		return q, invalid("invalid protocol %q: want tcp, udp or icmp", short(q.Protocol))
	}
	if m.GetPort() > 65535 {
		return q, invalid("invalid port %d: want 1 to 65535, or none", m.GetPort())
	}
	host := m.GetHost()
	addr, err := netip.ParseAddr(host)
	switch {
	case err == nil && addr.Zone() == "":
		q.Addr = addr
	case host == "" || len(host) > 253 || strings.ContainsAny(host, " \t\r\n/:[]%"):
		return q, invalid("invalid host %q: want an address or a name", short(host))
	default:
		if q.Host = host; q.Port == 0 {
			q.Port = defaultPort
		}
	}
	return q, nil
}

func short(s string) string { return s[:min(len(s), 64)] }

// momentTo leaves the zero time out.
func momentTo(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}
