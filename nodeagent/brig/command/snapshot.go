package command

import (
	"fmt"
	"time"

	"brig/nodeagent/brig/progress"
	"brig/nodeagent/brig/terminal"
	"brig/nodeagent/brig/view"

	brigv1 "brig/nodeagent/api/brig/v1"
	"connectrpc.com/connect"
	"github.com/spf13/cobra"
)

func (a *app) snapshotCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "snapshot SANDBOX NAME[:TAG]",
		Short: "Make an image of a running sandbox's files",
		Long: "Make an image of a running sandbox's root filesystem and print its name. Memory and mounts,\n" +
			"/run and /dev/shm too, are left out. Programs stand still while the files are read.\n\n" +
			"The image is yours alone; make sandboxes of it by NAME[:TAG] or by the name that is printed.",
		Example:           "  brig snapshot web web-ready && brig create web-ready",
		Args:              positional(2, 2),
		ValidArgsFunction: a.completeSandbox,
		RunE: func(cmd *cobra.Command, args []string) error {
			meter := progress.Start(a.Err, terminal.Is(a.Err), "taking a snapshot of "+args[0])
			res, err := a.client().Sandboxes.Snapshot(cmd.Context(), connect.NewRequest(&brigv1.SnapshotRequest{Sandbox: args[0], Name: args[1]}))
			meter.End("")
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(view.OfImage(res.Msg.GetImage()))
			}
			_, err = fmt.Fprintln(a.Out, res.Msg.GetImage().GetName())
			return err
		},
	}
}

func (a *app) checkpointCommand() *cobra.Command {
	var exit bool
	cmd := &cobra.Command{
		Use:   "checkpoint [--exit] SANDBOX NAME",
		Short: "Keep a running sandbox whole: memory, programs and files",
		Long: "Keep a running sandbox whole, memory, programs and files, under a name, and print it. Others are made\n" +
			"of it by brig create --from-checkpoint NAME, on this node and with this build of runsc alone. The\n" +
			"sandbox goes on, unless --exit is given. What the sandbox knew, its secrets too, is in the checkpoint.",
		Example:           "  brig checkpoint --exit web warm && brig create --from-checkpoint warm",
		Args:              positional(2, 2),
		ValidArgsFunction: a.completeSandbox,
		RunE: func(cmd *cobra.Command, args []string) error {
			meter := progress.Start(a.Err, terminal.Is(a.Err), "taking a checkpoint of "+args[0])
			res, err := a.client().Sandboxes.Checkpoint(cmd.Context(), connect.NewRequest(&brigv1.CheckpointRequest{Sandbox: args[0], Name: args[1], Exit: exit}))
			meter.End("")
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(view.OfCheckpoint(res.Msg.GetCheckpoint()))
			}
			_, err = fmt.Fprintln(a.Out, res.Msg.GetCheckpoint().GetName())
			return err
		},
	}
	cmd.Flags().BoolVar(&exit, "exit", false, "end the sandbox once it is kept")
	return cmd
}

func (a *app) checkpointsLsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "ls",
		Short: "List checkpoints",
		Long:  "List your checkpoints by name; root sees everybody's.",
		Args:  positional(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			res, err := a.client().Sandboxes.ListCheckpoints(cmd.Context(), connect.NewRequest(&brigv1.ListCheckpointsRequest{}))
			if err != nil {
				return err
			}
			list := view.OfCheckpoints(res.Msg.GetCheckpoints())
			if a.json {
				return a.printJSON(list)
			}
			return view.Table(a.Out, view.CheckpointRows(list, time.Now()))
		},
	}
}

func (a *app) checkpointsRmCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "rm NAME...",
		Short: "Delete checkpoints; sandboxes made from them go on",
		Args:  positional(1, 1<<20),
		RunE: func(cmd *cobra.Command, args []string) error {
			c := a.client()
			return a.each(args, func(name string) (any, error) {
				_, err := c.Sandboxes.RemoveCheckpoint(cmd.Context(), connect.NewRequest(&brigv1.RemoveCheckpointRequest{Name: name}))
				return removed{name}, err
			})
		},
	}
}

func (a *app) pauseCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "pause SANDBOX...",
		Short:             "Stop every program of sandboxes until brig resume",
		Long:              "Stop every program of sandboxes until brig resume. Their timeouts go on.",
		Args:              positional(1, 1<<20),
		ValidArgsFunction: a.completeSandbox,
		RunE: func(cmd *cobra.Command, args []string) error {
			c := a.client()
			return a.each(args, func(sandbox string) (any, error) {
				_, err := c.Sandboxes.Pause(cmd.Context(), connect.NewRequest(&brigv1.PauseRequest{Sandbox: sandbox}))
				return map[string]string{"paused": sandbox}, err
			})
		},
	}
}

func (a *app) resumeCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "resume SANDBOX...",
		Short:             "Let paused sandboxes go on",
		Args:              positional(1, 1<<20),
		ValidArgsFunction: a.completeSandbox,
		RunE: func(cmd *cobra.Command, args []string) error {
			c := a.client()
			return a.each(args, func(sandbox string) (any, error) {
				_, err := c.Sandboxes.Resume(cmd.Context(), connect.NewRequest(&brigv1.ResumeRequest{Sandbox: sandbox}))
				return map[string]string{"resumed": sandbox}, err
			})
		},
	}
}
