package command

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"brig/nodeagent/brig/client"
	"brig/nodeagent/brig/view"

	brigv1 "brig/nodeagent/api/brig/v1"
	"connectrpc.com/connect"
	"github.com/spf13/cobra"
)

func (a *app) eventsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "events [SANDBOX]",
		Short: "Show what happens to sandboxes from now on",
		Long: "Show what happens from now on to your sandboxes, or to one: made, ended, network policy changed,\n" +
			"something refused. Ends with Ctrl-C. With --json every event is one line. What happens while brigd\n" +
			"is restarted is not told.",
		Args:              positional(0, 1),
		ValidArgsFunction: a.completeSandbox,
		RunE: func(cmd *cobra.Command, args []string) error {
			req := &brigv1.EventsRequest{}
			if len(args) > 0 {
				req.Sandbox = args[0]
			}
			take := func(e view.Event) error {
				_, err := fmt.Fprintln(a.Out, view.EventLine(e))
				return err
			}
			if a.json {
				enc := json.NewEncoder(a.Out)
				enc.SetEscapeHTML(false)
				take = func(e view.Event) error { return enc.Encode(e) }
			}
			c := a.client()
			return persist(cmd.Context(), false, func() error { return listen(cmd.Context(), c, req, take) })
		},
	}
}

// listen takes events until the stream breaks.
func listen(ctx context.Context, c *client.Client, req *brigv1.EventsRequest, take func(view.Event) error) error {
	stream, err := c.Sandboxes.Events(ctx, connect.NewRequest(req))
	if err != nil {
		return err
	}
	defer stream.Close()
	for stream.Receive() {
		if e := stream.Msg().GetEvent(); e != nil {
			if err := take(view.OfEvent(e)); err != nil {
				return err
			}
		}
	}
	err = stream.Err()
	if connect.CodeOf(err) == connect.CodeCanceled && ctx.Err() == nil {
		return fmt.Errorf("%w: brigd ends", io.ErrUnexpectedEOF) // and comes back
	}
	return err
}
