package command

import (
	"time"

	"brig/nodeagent/brig/view"

	brigv1 "brig/nodeagent/api/brig/v1"
	"connectrpc.com/connect"
	"github.com/spf13/cobra"
)

func (a *app) lsCommand() *cobra.Command {
	var all bool
	var tags []string
	cmd := &cobra.Command{
		Use:   "ls [flags]",
		Short: "List sandboxes",
		Long:  "List your running sandboxes, oldest first; root sees everybody's.",
		Args:  positional(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			want, err := pairs("tag", tags)
			if err != nil {
				return err
			}
			res, err := a.client().Sandboxes.List(cmd.Context(), connect.NewRequest(&brigv1.ListRequest{Tags: want, All: all}))
			if err != nil {
				return err
			}
			list := view.OfSandboxes(res.Msg.GetSandboxes())
			if a.json {
				return a.printJSON(list)
			}
			return view.Table(a.Out, view.SandboxRows(list, time.Now()))
		},
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "ended ones, too")
	cmd.Flags().StringArrayVar(&tags, "tag", nil, "only those with this `KEY=VALUE` (repeatable: every one must match)")
	return cmd
}

func (a *app) inspectCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "inspect SANDBOX",
		Short:             "Show everything about a sandbox, as JSON",
		Args:              positional(1, 1),
		ValidArgsFunction: a.completeSandbox,
		RunE: func(cmd *cobra.Command, args []string) error {
			res, err := a.client().Sandboxes.Get(cmd.Context(), connect.NewRequest(&brigv1.GetRequest{Sandbox: args[0]}))
			if err != nil {
				return err
			}
			return a.printJSON(view.OfSandbox(res.Msg.GetSandbox()))
		},
	}
}

func (a *app) waitCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "wait SANDBOX",
		Short: "Wait for a sandbox's end and exit with its program's status",
		Long: "Wait for a sandbox's end and exit with its program's status: 128+n for a signal, 124 for a timeout,\n" +
			"137 if it was ended or ran out of memory, 125 if brig itself failed.",
		Args:              positional(1, 1),
		ValidArgsFunction: a.completeSandbox,
		Annotations:       map[string]string{exitsAsProgram: "yes"},
		RunE: func(cmd *cobra.Command, args []string) error {
			exit, err := wait(cmd.Context(), a.client(), args[0], false)
			if err != nil {
				return err
			}
			if a.json {
				if err := a.printJSON(view.OfExit(exit)); err != nil {
					return err
				}
			} else {
				a.explain(exit)
			}
			return exitWith(exit.GetCode())
		},
	}
}
