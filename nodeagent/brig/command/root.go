package command

import (
	"strings"

	"github.com/spf13/cobra"
)

// New returns the tree of commands over streams.
func New(streams Streams) *cobra.Command {
	a := &app{Streams: streams}
	root := group("brig", "Run untrusted code in gVisor sandboxes on this machine",
		a.createCommand(), a.runCommand(), a.execCommand(), a.attachCommand(),
		a.lsCommand(), a.inspectCommand(), a.logsCommand(), a.waitCommand(), a.rmCommand(),
		a.cpCommand(),
		a.pauseCommand(), a.resumeCommand(), a.snapshotCommand(), a.checkpointCommand(),
		group("checkpoints", "List and delete checkpoints", a.checkpointsLsCommand(), a.checkpointsRmCommand()),
		a.tunnelsCommand(),
		group("policy", "Show, change and explain the network policy of a sandbox",
			a.policyGetCommand(), a.policySetCommand(), a.policyExplainCommand()),
		a.eventsCommand(), a.statsCommand(),
		group("tunnel", "Open and close tunnels of a running sandbox", a.tunnelOpenCommand(), a.tunnelCloseCommand()),
		group("image", "List, fetch and delete images",
			a.imageLsCommand(), a.imagePullCommand(), a.imageImportCommand(), a.imageRmCommand()),
		group("node", "Show facts about this node", a.nodeInfoCommand(), a.nodeVerifyCommand(), a.nodeCACommand()),
		group("doctor", "Try whether this node's isolation holds, and look whether its GPUs can be used", a.doctorNetCommand(), a.doctorGPUCommand()),
		a.checkCommand(), a.versionCommand(),
	)
	root.Long = "brig runs untrusted code in gVisor sandboxes on this machine.\n\n" +
		"A sandbox is made from an image, runs one program (or idles), takes further programs by exec,\n" +
		"and is reached through tunnels. brigd, the agent on this node, does the work."
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetIn(streams.In)
	root.SetOut(streams.Out)
	root.SetErr(streams.Err)
	root.PersistentFlags().StringVar(&a.socket, "socket", "", "`PATH` of brigd's socket (default $BRIG_SOCKET, else /run/brig/brig.sock)")
	root.PersistentFlags().StringVar(&a.remote.Address, "address", "", "call a node from afar, at `https://HOST:PORT` (default $BRIG_ADDRESS)")
	root.PersistentFlags().StringVar(&a.remote.Cert, "cert", "", "with --address: `FILE` with your certificate (default $BRIG_CERT)")
	root.PersistentFlags().StringVar(&a.remote.Key, "key", "", "with --address: `FILE` with its key (default $BRIG_KEY)")
	root.PersistentFlags().StringVar(&a.remote.CA, "ca", "", "with --address: `FILE` that the node's certificate is checked by (default $BRIG_CA)")
	root.PersistentPreRunE = func(*cobra.Command, []string) error { return a.connect() }
	root.PersistentFlags().BoolVar(&a.json, "json", false, "print the result as JSON")
	root.SetFlagErrorFunc(flagError)
	usageAsWritten(root)
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	return root
}

// usageAsWritten keeps cobra from appending to how a command is written.
func usageAsWritten(cmd *cobra.Command) {
	cmd.DisableFlagsInUseLine = true
	for _, sub := range cmd.Commands() {
		usageAsWritten(sub)
	}
}

// flagError marks a wrong invocation; a flag that create or run do not know is
// mostly one of the program's.
func flagError(cmd *cobra.Command, err error) error {
	if strings.Contains(cmd.Use, "-- ARGV") && strings.HasPrefix(err.Error(), "unknown") {
		return usagef("%w; the program and its arguments go after --", err)
	}
	return &usageError{err}
}

// group is a command that only holds others.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use:   use,
		Short: short,
		Args:  cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			hint := ""
			if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
				hint = "; did you mean " + strings.Join(near, " or ") + "?"
			}
			return usagef("unknown command %q%s", args[0], hint)
		},
	}
	cmd.SuggestionsMinimumDistance = 2
	cmd.AddCommand(commands...)
	return cmd
}
