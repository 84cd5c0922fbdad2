package command

import (
	"fmt"

	brigv1 "brig/nodeagent/api/brig/v1"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
)

// verification is brig node verify --json.
type verification struct {
	Differences []string `json:"differences"`
	Census      []string `json:"census"`
}

func (a *app) nodeVerifyCommand() *cobra.Command {
	var census bool
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Compare what the node holds with what brigd has on record",
		Long: "Lists what the node should hold and does not (-), and what it holds and should not (+),\n" +
			"and exits with 1 if there is any of it. Only root may ask. Nothing is changed.",
		Args: positional(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			res, err := a.client().Node.Verify(cmd.Context(), connect.NewRequest(&brigv1.VerifyRequest{}))
			if err != nil {
				return err
			}
			v := verification{Differences: res.Msg.GetDifferences(), Census: res.Msg.GetCensus()}
			if err := a.printVerification(v, census); err != nil {
				return err
			}
			if len(v.Differences) > 0 {
				return exitStatus(1)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&census, "census", false, "list everything that the node holds, too")
	return cmd
}

func (a *app) printVerification(v verification, census bool) error {
	if a.json {
		// Lists, also where there is nothing.
		v.Differences, v.Census = append([]string{}, v.Differences...), append([]string{}, v.Census...)
		return a.printJSON(v)
	}
	lines := v.Differences
	if census {
		lines = append(v.Census, lines...)
	}
	for _, line := range lines {
		if _, err := fmt.Fprintln(a.Out, line); err != nil {
			return err
		}
	}
	return nil
}
