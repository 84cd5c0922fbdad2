package command

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"time"

	"brig/nodeagent/brig/client"
	"brig/nodeagent/brig/terminal"
	"brig/nodeagent/brig/view"

	brigv1 "brig/nodeagent/api/brig/v1"
	"connectrpc.com/connect"
	"github.com/spf13/cobra"
)

// statsEvery is how often the table is drawn.
const statsEvery = 2 * time.Second

func (a *app) statsCommand() *cobra.Command {
	var once bool
	cmd := &cobra.Command{
		Use:   "stats [flags] [SANDBOX...]",
		Short: "Show what running sandboxes use",
		Long: "Show what your running sandboxes use, or those that are named: a table that is drawn again every two\n" +
			"seconds on a terminal, until Ctrl-C; once where there is none, with --no-stream, or with --json.\n" +
			"CPU is the share of one processor since the last look, PIDS counts processes and threads; what gVisor\n" +
			"itself needs is a part of it all. A dash is what could not be asked.",
		Args:              positional(0, 1000),
		ValidArgsFunction: a.completeSandbox,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, before := a.client(), map[string]view.Stats{}
			for drawn := 0; ; drawn++ {
				list, err := stats(cmd.Context(), c, args)
				if err != nil {
					return err
				}
				if a.json {
					return a.printJSON(list)
				}
				if err := a.draw(view.StatsRows(list, before), drawn > 0); err != nil {
					return err
				}
				if once || !terminal.Is(a.Out) {
					return nil
				}
				for _, s := range list {
					before[s.Sandbox] = s
				}
				select {
				case <-time.After(statsEvery):
				case <-cmd.Context().Done():
					return nil
				}
			}
		},
	}
	cmd.Flags().BoolVar(&once, "no-stream", false, "print the table once")
	return cmd
}

func stats(ctx context.Context, c *client.Client, names []string) ([]view.Stats, error) {
	if len(names) == 0 {
		names = []string{""}
	}
	all := []view.Stats{}
	for _, name := range names {
		res, err := c.Sandboxes.Stats(ctx, connect.NewRequest(&brigv1.StatsRequest{Sandbox: name}))
		if err != nil {
			return nil, err
		}
		all = append(all, view.AllStats(res.Msg.GetStats())...)
	}
	return all, nil
}

// draw prints a table, over the one before it if there is one. Lines that are longer than
// the new ones are cleared, and so is what is below.
func (a *app) draw(rows [][]string, again bool) error {
	if !again {
		if terminal.Is(a.Out) {
			fmt.Fprint(a.Out, "\x1b[2J")
		} else {
			return view.Table(a.Out, rows)
		}
	}
	var text bytes.Buffer
	if err := view.Table(&text, rows); err != nil {
		return err
	}
	_, err := fmt.Fprint(a.Out, "\x1b[H", strings.ReplaceAll(text.String(), "\n", "\x1b[K\n"), "\x1b[J")
	return err
}
