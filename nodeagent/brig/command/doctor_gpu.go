package command

import (
	"brig/internal/config"
	"brig/nodeagent/doctor/gpu"
	"github.com/spf13/cobra"
)

// statusNoGPU is the exit status where sandboxes cannot have GPUs.
const statusNoGPU = 1

func (a *app) doctorGPUCommand() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "gpu [flags]",
		Short: "Say whether sandboxes can have this node's GPUs, and what to do if not",
		Long: "Look at NVIDIA's driver, its device nodes and libraries, the versions that gVisor knows, MIG, and\n" +
			"the CDI specifications on this node. Each line that begins with refused is a reason why no sandbox\n" +
			"gets a GPU, with its remedy: the same that a create would say. A warning is about what brig can\n" +
			"do with, and others may not. Nothing is changed.\n\n" +
			"The status is 0 if sandboxes can have GPUs, and 1 if they cannot, as on a node without any.",
		Args: positional(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.Load(config.Path(path))
			if err != nil {
				return err
			}
			report := gpu.Look(cmd.Context(), &cfg, gpu.NodeOf(&cfg))
			if a.json {
				err = a.printJSON(report)
			} else {
				err = report.Print(a.Out)
			}
			if err == nil && !report.Usable() {
				err = exitStatus(statusNoGPU)
			}
			return err
		},
	}
	cmd.Flags().StringVar(&path, "config", "", "the node's configuration `FILE` (default $BRIG_CONFIG or "+config.DefaultPath+")")
	return cmd
}
