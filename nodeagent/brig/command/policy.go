package command

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"brig/nodeagent/brig/view"

	brigv1 "brig/nodeagent/api/brig/v1"
	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"
)

func (a *app) policyGetCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "get SANDBOX",
		Short:             "Show the network policy in force, and what was refused",
		Args:              positional(1, 1),
		ValidArgsFunction: a.completeSandbox,
		RunE: func(cmd *cobra.Command, args []string) error {
			res, err := a.client().Sandboxes.GetNetworkPolicy(cmd.Context(), connect.NewRequest(&brigv1.GetNetworkPolicyRequest{Sandbox: args[0]}))
			if err != nil {
				return err
			}
			p := view.OfPolicy(res.Msg)
			if a.json {
				return a.printJSON(p)
			}
			return view.Table(a.Out, view.PolicyRows(p, time.Now()))
		},
	}
}

// policyChange is brig policy set --json.
type policyChange struct {
	Generation uint64     `json:"generation"`
	Until      *time.Time `json:"until,omitempty"`
}

func (a *app) policySetCommand() *cobra.Command {
	var flags policyFlags
	var open bool
	var lease time.Duration
	var generation uint64
	cmd := &cobra.Command{
		Use:   "set [flags] SANDBOX",
		Short: "Replace the network policy of a running sandbox",
		Long: "Replace the network policy of a running sandbox as a whole and print the new one's generation. It is\n" +
			"in force when the command returns: connections that it does not permit end at their next packet,\n" +
			"others are not disturbed. What is wrong is refused whole, and the old policy stays.\n\n" +
			"With --for the old policy is in force again after that time, even if brigd is not running then.\n" +
			"--block-network denies everything; a sandbox made with it has no interface and cannot be opened.",
		Example: "  brig policy set --cidr-allow 203.0.113.0/24 web\n" +
			"  brig policy set --open --for 5m --if-generation 3 web",
		Args:              positional(1, 1),
		ValidArgsFunction: a.completeSandbox,
		RunE: func(cmd *cobra.Command, args []string) error {
			network, err := flags.network(cmd.Flags())
			switch {
			case err != nil:
				return err
			case !open && !flags.outbound():
				return usagef("nothing says what the sandbox may connect to; give the whole policy, or --open for the public internet")
			case open && flags.outbound():
				return usagef("--open and a list, --no-egress or --block-network exclude each other; keep one")
			case network == nil:
				network = &brigv1.NetworkPolicy{}
			}
			req := &brigv1.SetNetworkPolicyRequest{Sandbox: args[0], Network: network, ExpectedGeneration: generation}
			if cmd.Flags().Changed("for") {
				req.Lease = durationpb.New(lease)
			}
			res, err := a.client().Sandboxes.SetNetworkPolicy(cmd.Context(), connect.NewRequest(req))
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(policyChange{res.Msg.GetGeneration(), view.Moment(res.Msg.GetUntil())})
			}
			_, err = fmt.Fprintln(a.Out, res.Msg.GetGeneration())
			return err
		},
	}
	flags.register(cmd.Flags())
	cmd.Flags().BoolVar(&open, "open", false, "may connect to public addresses and to no private ones, or what the node's configuration says instead")
	cmd.Flags().DurationVar(&lease, "for", 0, "`DURATION` after which the policy before is in force again, for example 5m (default: for good)")
	cmd.Flags().Uint64Var(&generation, "if-generation", 0, "only if generation `N` is in force")
	return cmd
}

// Statuses of brig policy explain.
const (
	statusDenied  = 1
	statusUnknown = 3
)

// explanation is brig policy explain --json.
type explanation struct {
	Verdict    string `json:"verdict"`
	Rule       string `json:"rule"`
	Generation uint64 `json:"generation"`
}

func (a *app) policyExplainCommand() *cobra.Command {
	var protocol string
	cmd := &cobra.Command{
		Use:   "explain [--protocol NAME] SANDBOX HOST[:PORT]",
		Short: "Tell whether a sandbox may connect, and by which rule",
		Long: "Tell whether a sandbox may connect to an address or a name, and by which rule, from what is in the\n" +
			"kernel now. Nothing is sent. Without PORT a name is asked about on 443, an address on any.\n\n" +
			"The status is 0 if it may, 1 if not, 3 if that depends on the address that the name leads to, and\n" +
			"125 if brig itself failed.",
		Example:           "  brig policy explain web 203.0.113.7:443",
		Args:              positional(2, 2),
		ValidArgsFunction: a.completeSandbox,
		Annotations:       map[string]string{exitsAsProgram: "yes"},
		RunE: func(cmd *cobra.Command, args []string) error {
			host, port, err := hostPort(args[1])
			if err != nil {
				return err
			}
			res, err := a.client().Sandboxes.ExplainNetwork(cmd.Context(), connect.NewRequest(&brigv1.ExplainNetworkRequest{
				Sandbox: args[0], Host: host, Port: port, Protocol: protocol,
			}))
			if err != nil {
				return err
			}
			e := explanation{view.Verdict(res.Msg.GetVerdict()), res.Msg.GetRule(), res.Msg.GetGeneration()}
			if a.json {
				err = a.printJSON(e)
			} else {
				_, err = fmt.Fprintf(a.Out, "%s: %s (generation %d)\n", e.Verdict, e.Rule, e.Generation)
			}
			if err != nil {
				return err
			}
			switch res.Msg.GetVerdict() {
			case brigv1.Verdict_VERDICT_ALLOW:
				return nil
			case brigv1.Verdict_VERDICT_UNKNOWN:
				return exitStatus(statusUnknown)
			}
			return exitStatus(statusDenied)
		},
	}
	cmd.Flags().StringVar(&protocol, "protocol", "tcp", "`NAME`: tcp, udp or icmp")
	return cmd
}

// hostPort splits HOST[:PORT]; an IPv6 address with a port stands in brackets.
func hostPort(s string) (host string, port uint32, err error) {
	if _, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return strings.Trim(s, "[]"), 0, nil
	}
	if !strings.Contains(s, ":") {
		return s, 0, nil
	}
	host, number, err := net.SplitHostPort(s)
	n, errNumber := strconv.ParseUint(number, 10, 32)
	if err != nil || errNumber != nil || n == 0 || n > 65535 {
		return "", 0, usagef("%q: write it as HOST or HOST:PORT, an IPv6 address with a port as [ADDRESS]:PORT", s)
	}
	return host, uint32(n), nil
}
