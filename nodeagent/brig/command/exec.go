package command

import (
	"context"
	"fmt"
	"io"
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
	stdin, tty, detach bool
	timeout            time.Duration
	workdir            string
	env                []string
	id, attach         string
}

func (a *app) execCommand() *cobra.Command {
	var flags execFlags
	cmd := &cobra.Command{
		Use:   "exec [-it] [flags] SANDBOX -- ARGV...",
		Short: "Run a further program in a running sandbox",
		Long: "Run a further program in a running sandbox and exit with its status (124 if its timeout ended it,\n" +
			"125 if brig itself failed). Signals that brig gets are passed on. The program ends with brig, but\n" +
			"not with brigd: brig goes on when that is back.\n\n" +
			"With --exec-id or --detach the program goes on by itself, and its output and status are kept until\n" +
			"the sandbox is removed. The same command with the same --exec-id never runs it twice: it shows the\n" +
			"output from the beginning, as --attach does.",
		Example: "  brig exec SANDBOX -- uname -a\n" +
			"  brig exec -it SANDBOX -- /bin/sh\n" +
			"  brig exec --detach --exec-id build SANDBOX -- make\n" +
			"  brig exec --attach build SANDBOX",
		ValidArgsFunction: a.completeSandbox,
		Annotations:       map[string]string{exitsAsProgram: "yes"},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := flags.check(a, cmd); err != nil {
				return err
			}
			if flags.attach != "" {
				if len(args) != 1 {
					return usagef("--attach takes SANDBOX alone: %s", cmd.UseLine())
				}
				return a.execAttach(cmd.Context(), args[0], flags)
			}
			spec, err := flags.spec(cmd, args)
			switch {
			case err != nil:
				return err
			case flags.detach:
				return a.execDetach(cmd.Context(), spec, flags)
			case a.json:
				return a.execUnary(cmd.Context(), spec, flags)
			}
			return a.execStream(cmd.Context(), spec, flags)
		},
	}
	flags.register(cmd)
	return cmd
}

func (f *execFlags) register(cmd *cobra.Command) {
	fs := cmd.Flags()
	// Whatever follows SANDBOX is the program's, dashes and all.
	fs.SetInterspersed(false)
	fs.BoolVarP(&f.stdin, "interactive", "i", false, "pass stdin on")
	fs.BoolVarP(&f.tty, "tty", "t", false, "give the program a terminal")
	fs.BoolVarP(&f.detach, "detach", "d", false, "print the exec's id and let the program go on by itself")
	fs.StringVar(&f.id, "exec-id", "", "`ID` of the exec, which is kept: at most 64 of [A-Za-z0-9_.-]")
	fs.StringVar(&f.attach, "attach", "", "go on with the exec of that `ID` instead of running a program")
	fs.DurationVar(&f.timeout, "timeout", 0, "end the program after this `DURATION` with status 124")
	fs.StringVar(&f.workdir, "workdir", "", "working `DIRECTORY`, absolute (default: the sandbox's)")
	fs.StringArrayVar(&f.env, "env", nil, "`KEY=VALUE` added to the sandbox's environment (repeatable)")
}

// check refuses what contradicts.
func (f *execFlags) check(a *app, cmd *cobra.Command) error {
	if f.attach != "" {
		for _, name := range []string{"detach", "exec-id", "timeout", "workdir", "env"} {
			if cmd.Flags().Changed(name) {
				return usagef("--attach goes on with what was started before; leave out --%s", name)
			}
		}
	}
	switch {
	case a.json && f.attach != "":
		return usagef("--json and --attach exclude each other; leave one out")
	case a.json && !f.detach && (f.stdin || f.tty):
		return usagef("--json collects the output and takes no -i or -t; leave one out")
	case f.tty && !f.detach && !terminal.Is(a.In):
		return usagef("-t needs a terminal on stdin; leave it out")
	}
	return nil
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

func (a *app) execUnary(ctx context.Context, spec *brigv1.ExecSpec, flags execFlags) error {
	res, err := a.client().Exec.Run(ctx, connect.NewRequest(&brigv1.ExecRunRequest{Exec: spec, ExecId: flags.id}))
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

// execDetach starts the program and leaves it.
func (a *app) execDetach(ctx context.Context, spec *brigv1.ExecSpec, flags execFlags) error {
	res, err := a.client().Exec.Start(ctx, connect.NewRequest(flags.start(spec)))
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(map[string]string{"exec_id": res.Msg.GetExecId()})
	}
	_, err = fmt.Fprintln(a.Out, res.Msg.GetExecId())
	return err
}

func (f *execFlags) start(spec *brigv1.ExecSpec) *brigv1.ExecStart {
	return &brigv1.ExecStart{Exec: spec, Tty: f.tty, Stdin: f.stdin, ExecId: f.id}
}

func (a *app) execAttach(ctx context.Context, sandbox string, flags execFlags) error {
	attach := &brigv1.ExecAttach{Sandbox: sandbox, ExecId: flags.attach}
	return a.converse(ctx, sandbox, flags, &brigv1.ExecStreamRequest{Message: &brigv1.ExecStreamRequest_Attach{Attach: attach}})
}

func (a *app) execStream(ctx context.Context, spec *brigv1.ExecSpec, flags execFlags) error {
	start := flags.start(spec)
	if flags.tty {
		start.Size = window(terminal.SizeOf(a.In.(*os.File))) // a terminal, checked
	}
	return a.converse(ctx, spec.GetSandbox(), flags, &brigv1.ExecStreamRequest{Message: &brigv1.ExecStreamRequest_Start{Start: start}})
}

// converse with a program, with this process' streams in the place of its own.
func (a *app) converse(ctx context.Context, sandbox string, flags execFlags, first *brigv1.ExecStreamRequest) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var in io.Reader
	if flags.stdin {
		in = a.In
	}
	s := newSession(a.client().Exec, sandbox, in)
	if err := s.connect(ctx, first); err != nil {
		return err
	}
	if flags.tty {
		tty := a.In.(*os.File)
		restore, err := terminal.Raw(tty)
		if err != nil {
			return err
		}
		defer restore()
		resize := func(size terminal.Size) { s.resize(ctx, size) }
		go terminal.Resizes(ctx, tty, resize)
		// The window may have changed before anybody listened.
		resize(terminal.SizeOf(tty))
	}
	go s.forwardSignals(ctx)
	if in != nil {
		go s.stdin.fill(ctx, in)
	}
	exit, err := s.follow(ctx, a.Out, a.Err)
	if err != nil {
		return err
	}
	if exit.GetReason() != brigv1.Reason_REASON_EXITED && exit.GetReason() != brigv1.Reason_REASON_SIGNAL {
		defer a.explain(exit) // after the terminal is itself again
	}
	return exitWith(exit.GetCode())
}

func window(s terminal.Size) *brigv1.WindowSize {
	return &brigv1.WindowSize{Columns: s.Columns, Rows: s.Rows}
}
