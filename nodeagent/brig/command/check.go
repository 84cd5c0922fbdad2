package command

import (
	"fmt"

	"brig/nodeagent/brig/check"
	"github.com/spf13/cobra"
)

// checkImage is where install.sh leaves the image that a check runs.
const checkImage = "/usr/local/libexec/brig/check-image.tar"

func (a *app) checkCommand() *cobra.Command {
	var image string
	cmd := &cobra.Command{
		Use:   "check [flags]",
		Short: "Try this node: run a real sandbox and look at it from inside and outside",
		Long: "Run a real sandbox on this node and tell what it did: made from an image, the kernel it sees, an\n" +
			"exec, a name resolved, a request through a tunnel, blocked connections. Everything is removed again.\n" +
			"The status is 1 if anything is not as it should be.",
		Args: positional(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			steps := []check.Step{}
			err := check.Run(cmd.Context(), a.client(), image, func(s check.Step) {
				steps = append(steps, s)
				if !a.json {
					word := "ok    "
					if !s.OK {
						word = "FAILED"
					}
					fmt.Fprintf(a.Out, "%s %-8s %s\n", word, s.Name, s.Detail)
				}
			})
			if a.json {
				if jsonErr := a.printJSON(steps); jsonErr != nil {
					return jsonErr
				}
			}
			return err
		},
	}
	cmd.Flags().StringVar(&image, "image", checkImage, "OCI archive `FILE` of the image, which must hold /bin/busybox")
	return cmd
}
