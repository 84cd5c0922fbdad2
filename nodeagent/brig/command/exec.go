package command

import (
	"context"
	"os"
	"strings"
	"time"

	"brig/nodeagent/brig/terminal"
	"brig/nodeagent/brig/view"

	brigv1 "brig/nodeagent/api/brig/v1"
	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"
)

type execFlags struct {
	stdin, tty bool
	timeout    time.Duration
	workdir    string
	env        []string
}

func (a *app) execCommand() *cobra.Command {
	var flags execFlags
	cmd := &cobra.Command{
		Use:   "exec [-it] [flags] SANDBOX -- ARGV...",
		Short: "Run a further program in a running sandbox",
		Long: "Run a further program in a running sandbox and exit with its status (124 if its timeout ended it,\n" +
			"125 if brig itself failed). Signals that brig gets are passed on; the program ends with brig.",
		Example: "  brig exec SANDBOX -- uname -a\n" +
			"  brig exec -it SANDBOX -- /bin/sh",
		ValidArgsFunction: a.completeSandbox,
		Annotations:       map[string]string{exitsAsProgram: "yes"},
		RunE: func(cmd *cobra.Command, args []string) error {
			spec, err := flags.spec(cmd, args)
			if err != nil {
				return err
			}
			if a.json {
				if flags.stdin || flags.tty {
					return usagef("--json collects the output and takes no -i or -t; leave one out")
				}
				return a.execUnary(cmd.Context(), spec)
			}
			if flags.tty && !terminal.Is(a.In) {
				return usagef("-t needs a terminal on stdin; leave it out")
			}
			return a.execStream(cmd.Context(), spec, flags)
		},
	}
	fs := cmd.Flags()
	// Whatever follows SANDBOX is the program's, dashes and all.
	fs.SetInterspersed(false)
	fs.BoolVarP(&flags.stdin, "interactive", "i", false, "pass stdin on")
	fs.BoolVarP(&flags.tty, "tty", "t", false, "give the program a terminal")
	fs.DurationVar(&flags.timeout, "timeout", 0, "end the program after this `DURATION` with status 124")
	fs.StringVar(&flags.workdir, "workdir", "", "working `DIRECTORY`, absolute (default: the sandbox's)")
	fs.StringArrayVar(&flags.env, "env", nil, "`KEY=VALUE` added to the sandbox's environment (repeatable)")
	return cmd
}

// spec builds the message for SANDBOX [--] ARGV…
func (f *execFlags) spec(cmd *cobra.Command, args []string) (*brigv1.ExecSpec, error) {
	if len(args) == 0 {
		return nil, usagef("expected: %s", cmd.UseLine())
	}
	argv := args[1:]
	switch {
	case len(argv) > 0 && argv[0] == "--":
		argv = argv[1:]
	case len(argv) > 0 && strings.HasPrefix(argv[0], "-"):
		return nil, usagef("%s stands after SANDBOX; flags of exec go before it, the program after --", argv[0])
	}
	if len(argv) == 0 {
		return nil, usagef("exec needs a program: %s", cmd.UseLine())
	}
	env, err := pairs("env", f.env)
	if err != nil {
		return nil, err
	}
	spec := &brigv1.ExecSpec{Sandbox: args[0], Argv: argv, Env: env, Workdir: f.workdir}
	if cmd.Flags().Changed("timeout") {
		spec.Timeout = durationpb.New(f.timeout)
	}
	return spec, nil
}

// execResult is brig exec --json.
type execResult struct {
	Stdout    string    `json:"stdout"`
	Stderr    string    `json:"stderr"`
	Truncated bool      `json:"truncated"`
	Exit      view.Exit `json:"exit"`
}

func (a *app) execUnary(ctx context.Context, spec *brigv1.ExecSpec) error {
	res, err := a.client().Exec.Run(ctx, connect.NewRequest(&brigv1.ExecRunRequest{Exec: spec}))
	if err != nil {
		return err
	}
	err = a.printJSON(execResult{
		Stdout: string(res.Msg.GetStdout()), Stderr: string(res.Msg.GetStderr()),
		Truncated: res.Msg.GetTruncated(), Exit: view.OfExit(res.Msg.GetExit()),
	})
	if err != nil {
		return err
	}
	return exitWith(res.Msg.GetExit().GetCode())
}

// execStream runs the program with this process' streams in its place.
func (a *app) execStream(ctx context.Context, spec *brigv1.ExecSpec, flags execFlags) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	start := &brigv1.ExecStart{Exec: spec, Tty: flags.tty, Stdin: flags.stdin}
	var tty *os.File
	if flags.tty {
		tty = a.In.(*os.File) // a terminal, checked
		start.Size = window(terminal.SizeOf(tty))
	}
	s := &session{stream: a.client().Exec.Stream(ctx)}
	if err := s.begin(start); err != nil {
		return err
	}
	if tty != nil {
		restore, err := terminal.Raw(tty)
		if err != nil {
			return err
		}
		defer restore()
		go terminal.Resizes(ctx, tty, s.resize)
		// The window may have changed before anybody listened.
		s.resize(terminal.SizeOf(tty))
	}
	go s.forwardSignals(ctx)
	if flags.stdin {
		go s.forwardStdin(a.In)
	}
	exit, err := s.copyOutput(a.Out, a.Err)
	if err != nil {
		return err
	}
	if exit.GetReason() == brigv1.Reason_REASON_EXEC_TIMEOUT {
		defer a.explain(exit) // after the terminal is itself again
	}
	return exitWith(exit.GetCode())
}

func window(s terminal.Size) *brigv1.WindowSize {
	return &brigv1.WindowSize{Columns: s.Columns, Rows: s.Rows}
}
