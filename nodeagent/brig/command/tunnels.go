package command

import (
	"fmt"

	"brig/nodeagent/brig/view"

	brigv1 "brig/nodeagent/api/brig/v1"
	"connectrpc.com/connect"
	"github.com/spf13/cobra"
)

func (a *app) tunnelsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "tunnels SANDBOX",
		Short: "List the tunnels of a sandbox",
		Long: "List the tunnels of a sandbox: its port and the URL that leads there; with --json also the open\n" +
			"connections and the bytes in and out. Unless the node has certificates of others, its own CA\n" +
			"signs those of TLS tunnels; brig node ca prints its path.",
		Args:              positional(1, 1),
		ValidArgsFunction: a.completeSandbox,
		RunE: func(cmd *cobra.Command, args []string) error {
			res, err := a.client().Tunnels.List(cmd.Context(), connect.NewRequest(&brigv1.TunnelsListRequest{Sandbox: args[0]}))
			if err != nil {
				return err
			}
			list := view.OfTunnels(res.Msg.GetTunnels())
			if a.json {
				return a.printJSON(list)
			}
			return view.Table(a.Out, view.TunnelRows(list))
		},
	}
}

func (a *app) tunnelOpenCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "open SANDBOX PORT[/h2|/tcp]",
		Short: "Open a tunnel to a port of a sandbox and print its URL",
		Long: "Open a tunnel to a port of a running sandbox and print its URL: TLS ended by brigd, with /h2 for\n" +
			"HTTP/2 only, or raw TCP with /tcp. Opening one that is open prints it again.",
		Args:              positional(2, 2),
		ValidArgsFunction: a.completeSandbox,
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := port(args[1])
			if err != nil {
				return err
			}
			res, err := a.client().Tunnels.Open(cmd.Context(),
				connect.NewRequest(&brigv1.TunnelsOpenRequest{Sandbox: args[0], Port: p}))
			if err != nil {
				return err
			}
			t := view.OfTunnel(res.Msg.GetTunnel())
			if a.json {
				return a.printJSON(t)
			}
			_, err = fmt.Fprintln(a.Out, t.URL)
			return err
		},
	}
}

func (a *app) tunnelCloseCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "close SANDBOX PORT[/h2|/tcp]",
		Short:             "Close a tunnel and cut its connections",
		Args:              positional(2, 2),
		ValidArgsFunction: a.completeSandbox,
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := port(args[1])
			if err != nil {
				return err
			}
			_, err = a.client().Tunnels.Close(cmd.Context(),
				connect.NewRequest(&brigv1.TunnelsCloseRequest{Sandbox: args[0], Port: p}))
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(struct {
					Closed uint32 `json:"closed"`
				}{p.GetSandboxPort()})
			}
			_, err = fmt.Fprintln(a.Out, args[1])
			return err
		},
	}
}
