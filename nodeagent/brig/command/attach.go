package command

import (
	"context"
	"errors"
	"io"
	"os"

	"brig/nodeagent/brig/client"
	"brig/nodeagent/brig/terminal"

	brigv1 "brig/nodeagent/api/brig/v1"
	"connectrpc.com/connect"
	"github.com/spf13/cobra"
)

func (a *app) attachCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "attach SANDBOX",
		Short: "Connect this terminal with a sandbox's program",
		Long: "Show what a sandbox's program writes, from what is kept of it on, and pass stdin on if the program\n" +
			"has one (brig create -i). Exit with the program's status. If brig ends first, by a signal say, the\n" +
			"program goes on; so it does if brigd is restarted, and brig with it.",
		Args:              positional(1, 1),
		ValidArgsFunction: a.completeSandbox,
		Annotations:       map[string]string{exitsAsProgram: "yes"},
		RunE: func(cmd *cobra.Command, args []string) error {
			if a.json {
				return usagef("attach has no --json; use brig logs")
			}
			c := a.client()
			res, err := c.Sandboxes.Get(cmd.Context(), connect.NewRequest(&brigv1.GetRequest{Sandbox: args[0]}))
			if err != nil {
				return err
			}
			at := attachment{app: a, c: c, sandbox: res.Msg.GetSandbox().GetId()}
			if err := at.ask(cmd.Context()); err != nil {
				return err
			}
			return at.run(cmd.Context())
		},
	}
}

// attachment connects this process' streams with those of a sandbox's program. brigd may
// go away and come back meanwhile: output is read on from its offset, and input sent again
// until it is acknowledged.
type attachment struct {
	*app
	c          *client.Client
	sandbox    string
	stdin, tty bool
	offset     uint64 // of stdin
}

// ask finds out what the program has, by asking for nothing.
func (at *attachment) ask(ctx context.Context) error {
	answer, err := at.c.Sandboxes.WriteInput(ctx, connect.NewRequest(&brigv1.WriteInputRequest{Sandbox: at.sandbox}))
	switch {
	case err == nil:
		at.stdin, at.offset = true, answer.Msg.GetOffset()
	case connect.CodeOf(err) != connect.CodeFailedPrecondition: // no stdin, or no program any more
		return err
	}
	at.tty = at.stdin && at.resize(ctx, sizeOf(at.In)) == nil
	return nil
}

// run returns when the program has ended, with its status, or when ctx does.
func (at *attachment) run(ctx context.Context) error {
	exit, err := at.follow(ctx)
	if err != nil {
		return err
	}
	at.explain(exit)
	return exitWith(exit.GetCode())
}

func (at *attachment) follow(ctx context.Context) (*brigv1.Exit, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if tty, ok := asTerminal(at.In); ok && at.tty {
		restore, err := terminal.Raw(tty)
		if err != nil {
			return nil, err
		}
		defer restore()
		resize := func(size terminal.Size) {
			_ = persist(ctx, reached, func() error { return at.resize(ctx, size) }) // a program that has ended needs none
		}
		go func() {
			resize(terminal.SizeOf(tty)) // it may have changed before anybody listened
			terminal.Resizes(ctx, tty, resize)
		}()
	}
	if at.stdin {
		go func() {
			if err := at.forward(ctx); err != nil {
				cancel(err)
			}
		}()
	}
	out := output{take: at.toStreams, away: reached}
	err := out.copy(ctx, at.c, at.sandbox, true)
	if err == nil {
		var exit *brigv1.Exit
		if exit, err = wait(ctx, at.c, at.sandbox, reached); err == nil {
			return exit, nil
		}
	}
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	return nil, err
}

func (at *attachment) resize(ctx context.Context, size terminal.Size) error {
	_, err := at.c.Sandboxes.ResizeTerminal(ctx, connect.NewRequest(&brigv1.ResizeTerminalRequest{Sandbox: at.sandbox, Size: window(size)}))
	return err
}

// forward sends stdin until it or the program ends. It may outlive the program: a read of
// a terminal cannot be interrupted, and this process ends soon after.
func (at *attachment) forward(ctx context.Context) error {
	buf := make([]byte, 256<<10)
	for {
		n, errRead := at.In.Read(buf)
		if errRead != nil && !errors.Is(errRead, io.EOF) {
			return errRead
		}
		req := &brigv1.WriteInputRequest{Sandbox: at.sandbox, Offset: at.offset, Data: buf[:n], Eof: errRead != nil}
		err := persist(ctx, reached, func() error {
			_, err := at.c.Sandboxes.WriteInput(ctx, connect.NewRequest(req))
			return err
		})
		if connect.CodeOf(err) == connect.CodeFailedPrecondition {
			return nil // the program has ended, which its output tells
		}
		if err != nil || errRead != nil {
			return err
		}
		at.offset += uint64(n)
	}
}

// asTerminal is stream as the file it must be to be a terminal.
func asTerminal(stream any) (tty *os.File, ok bool) {
	if !terminal.Is(stream) {
		return nil, false
	}
	return stream.(*os.File), true
}
