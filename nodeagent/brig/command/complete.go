package command

import (
	brigv1 "brig/nodeagent/api/brig/v1"
	"connectrpc.com/connect"
	"github.com/spf13/cobra"
)

// completeSandbox offers ids and names; without brigd it offers nothing.
func (a *app) completeSandbox(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 0 && cmd.Name() != "rm" {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	if a.connect() != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	res, err := a.client().Sandboxes.List(cmd.Context(), connect.NewRequest(&brigv1.ListRequest{All: true}))
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var out []cobra.Completion
	for _, s := range res.Msg.GetSandboxes() {
		out = append(out, cobra.CompletionWithDesc(s.GetId(), s.GetImage()))
		if s.GetName() != "" && s.GetState() == brigv1.State_STATE_RUNNING {
			out = append(out, cobra.CompletionWithDesc(s.GetName(), s.GetId()))
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}
