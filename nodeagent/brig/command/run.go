package command

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"time"

	"brig/nodeagent/brig/client"
	"brig/nodeagent/brig/terminal"
	"brig/nodeagent/brig/view"

	brigv1 "brig/nodeagent/api/brig/v1"
	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/durationpb"
)

// grace is the time between SIGTERM and SIGKILL when brig ends a sandbox.
const grace = 10 * time.Second

func (a *app) runCommand() *cobra.Command {
	var flags createFlags
	cmd := &cobra.Command{
		Use:   "run [flags] IMAGE -- ARGV...",
		Short: "Run one program in a sandbox of its own, then remove it",
		Long: "Make a sandbox, show its output, remove it at its end and exit with its program's status. With -i\n" +
			"stdin is passed on, with -t the program has this terminal. A brigd that is restarted meanwhile is\n" +
			"waited for: no byte is lost or repeated.\n\n" +
			"Ctrl-C ends the sandbox (SIGTERM, ten seconds later SIGKILL; again: at once). The status is 125\n" +
			"if brig itself failed.",
		Example: "  brig run IMAGE -- python3 -c 'print(\"hello\")'\n" +
			"  brig run -it IMAGE -- /bin/sh",
		Annotations: map[string]string{exitsAsProgram: "yes"},
		RunE: func(cmd *cobra.Command, args []string) error {
			req, err := flags.request(cmd, args)
			if err != nil {
				return err
			}
			if len(req.GetArgv()) == 0 && req.GetFromCheckpoint() == "" {
				return usagef("run needs a program: %s (a sandbox that idles is made by brig create)", cmd.UseLine())
			}
			if req.GetTty() && !terminal.Is(a.In) {
				return usagef("-t needs a terminal on stdin; leave it out")
			}
			if a.json && (req.GetStdin() || req.GetTty()) {
				return usagef("--json collects the output and takes no -i or -t; leave one out")
			}
			return a.run(cmd.Context(), req)
		},
	}
	flags.register(cmd, "block")
	return cmd
}

// run is the life of a sandbox that lasts as long as this process.
func (a *app) run(ctx context.Context, req *brigv1.CreateRequest) error {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	defer signal.Stop(signals)

	c := a.client()
	sb, err := a.createInterruptibly(ctx, c, req, signals)
	if err != nil {
		return err
	}
	defer a.remove(ctx, c, sb.GetId())
	watching, done := context.WithCancel(ctx)
	defer done()
	go terminateOn(watching, c, sb.GetId(), signals)

	if a.json {
		return a.runJSON(ctx, c, sb)
	}
	at := attachment{app: a, c: c, sandbox: sb.GetId(), stdin: req.GetStdin(), tty: req.GetTty()}
	return at.run(ctx)
}

// createInterruptibly is create that a signal cancels; brigd then undoes what
// it has done.
func (a *app) createInterruptibly(
	ctx context.Context, c *client.Client, req *brigv1.CreateRequest, signals chan os.Signal,
) (*brigv1.Sandbox, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	made := make(chan struct{})
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case s := <-signals:
			signals <- s // whoever comes next ends the sandbox that may have been made
			cancel()
		case <-made:
		}
	}()
	sb, err := a.create(ctx, c, req)
	close(made)
	<-watched
	return sb, err
}

// terminateOn ends the sandbox at the first signal and kills it at the second.
func terminateOn(ctx context.Context, c *client.Client, sandbox string, signals <-chan os.Signal) {
	for wait := grace; ; wait = 0 {
		select {
		case <-ctx.Done():
			return
		case <-signals:
			req := &brigv1.TerminateRequest{Sandbox: sandbox}
			if wait > 0 {
				req.Grace = durationpb.New(wait)
			}
			// In the background, so that a second signal is heard. Its failure
			// shows in what the run itself reports.
			go func() { _, _ = c.Sandboxes.Terminate(ctx, connect.NewRequest(req)) }()
		}
	}
}

// remove outlives an interrupted run: the sandbox goes in any case.
func (a *app) remove(ctx context.Context, c *client.Client, sandbox string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	req := connect.NewRequest(&brigv1.RemoveRequest{Sandbox: sandbox, Force: true})
	if _, err := c.Sandboxes.Remove(ctx, req); err != nil && connect.CodeOf(err) != connect.CodeNotFound {
		fmt.Fprintf(a.Err, "brig: %s is left behind (%s); remove it with: brig rm --force %s\n",
			sandbox, client.Describe(err), sandbox)
	}
}

// runResult is brig run --json.
type runResult struct {
	ID     string    `json:"id"`
	Stdout string    `json:"stdout"`
	Stderr string    `json:"stderr"`
	Exit   view.Exit `json:"exit"`
}

func (a *app) runJSON(ctx context.Context, c *client.Client, sb *brigv1.Sandbox) error {
	var kept [3][]byte
	out := output{away: reached, take: func(channel brigv1.Channel, _, _ uint64, data []byte) error {
		kept[channel] = append(kept[channel], data...)
		return nil
	}}
	if err := out.copy(ctx, c, sb.GetId(), true); err != nil {
		return err
	}
	exit, err := wait(ctx, c, sb.GetId(), reached)
	if err != nil {
		return err
	}
	err = a.printJSON(runResult{
		ID:     sb.GetId(),
		Stdout: string(kept[brigv1.Channel_CHANNEL_STDOUT]),
		Stderr: string(kept[brigv1.Channel_CHANNEL_STDERR]),
		Exit:   view.OfExit(exit),
	})
	if err != nil {
		return err
	}
	return exitWith(exit.GetCode())
}

// explain says why, where the status alone would mislead.
func (a *app) explain(exit *brigv1.Exit) {
	text, known := map[brigv1.Reason]string{
		brigv1.Reason_REASON_OOM:           "it needed more memory than its limit (oom); give it more with --memory",
		brigv1.Reason_REASON_TIMEOUT:       "its time was up (timeout); give it more with --timeout",
		brigv1.Reason_REASON_IDLE_TIMEOUT:  "it was idle for too long (idle_timeout)",
		brigv1.Reason_REASON_EXEC_TIMEOUT:  "its time was up (exec_timeout); give it more with --timeout",
		brigv1.Reason_REASON_START_FAILED:  "it never started (start_failed)",
		brigv1.Reason_REASON_RUNTIME_CRASH: "the sandbox's kernel died (runtime_crash)",
		brigv1.Reason_REASON_LOST:          "the node lost it and does not know its status (lost)",
	}[exit.GetReason()]
	if known {
		fmt.Fprintf(a.Err, "brig: %s\n", text)
	}
}
