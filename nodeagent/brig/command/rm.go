package command

import (
	"fmt"

	"brig/nodeagent/brig/client"

	brigv1 "brig/nodeagent/api/brig/v1"
	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"
)

func (a *app) rmCommand() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "rm [--force] SANDBOX...",
		Short: "End and remove sandboxes",
		Long: "End sandboxes that still run (SIGTERM, ten seconds later SIGKILL) and remove them with their output.\n" +
			"With --force they are killed at once. Every one is tried, also after a failure.",
		Args:              positional(1, 1<<20),
		ValidArgsFunction: a.completeSandbox,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.each(args, func(sandbox string) (any, error) {
				return removed{sandbox}, a.rm(cmd, sandbox, force)
			})
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "kill at once what still runs")
	return cmd
}

func (a *app) rm(cmd *cobra.Command, sandbox string, force bool) error {
	c := a.client()
	if !force {
		// A name is its sandbox's until the end only: go by the id.
		res, err := c.Sandboxes.Get(cmd.Context(), connect.NewRequest(&brigv1.GetRequest{Sandbox: sandbox}))
		if err != nil {
			return err
		}
		sandbox = res.Msg.GetSandbox().GetId()
		if res.Msg.GetSandbox().GetState() != brigv1.State_STATE_EXITED {
			_, err := c.Sandboxes.Terminate(cmd.Context(), connect.NewRequest(&brigv1.TerminateRequest{
				Sandbox: sandbox, Grace: durationpb.New(grace),
			}))
			if err != nil {
				return err
			}
		}
	}
	_, err := c.Sandboxes.Remove(cmd.Context(), connect.NewRequest(&brigv1.RemoveRequest{Sandbox: sandbox, Force: force}))
	return err
}

// removed is one element of what rm prints as JSON.
type removed struct {
	Removed string `json:"removed"`
}

// each calls do for every argument, prints what came of it and fails with the
// last error after having told all of them.
func (a *app) each(args []string, do func(string) (any, error)) error {
	results := []any{}
	var failed error
	for _, arg := range args {
		result, err := do(arg)
		if err != nil {
			if failed != nil {
				fmt.Fprintf(a.Err, "brig: %s\n", client.Describe(failed))
			}
			failed = err
			continue
		}
		results = append(results, result)
		if !a.json {
			fmt.Fprintln(a.Out, arg)
		}
	}
	if a.json {
		if err := a.printJSON(results); err != nil {
			return err
		}
	}
	return failed
}
