package command

import (
	"encoding/json"
	"unicode/utf8"

	brigv1 "brig/nodeagent/api/brig/v1"
	"github.com/spf13/cobra"
)

func (a *app) logsCommand() *cobra.Command {
	var follow bool
	cmd := &cobra.Command{
		Use:   "logs [-f] SANDBOX",
		Short: "Show what a sandbox's program wrote",
		Long: "Show what a sandbox's program wrote: its stdout to stdout, its stderr to stderr. Output of execs\n" +
			"is not kept. With --json every piece is one line; bytes that are no text become U+FFFD there.",
		Args:              positional(1, 1),
		ValidArgsFunction: a.completeSandbox,
		RunE: func(cmd *cobra.Command, args []string) error {
			out := output{take: a.toStreams}
			if a.json {
				out.take = a.toLines()
			}
			return out.copy(cmd.Context(), a.client(), args[0], follow)
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on until the sandbox ends")
	return cmd
}

// logLine is one line of brig logs --json.
type logLine struct {
	Stream string `json:"stream"`
	Offset uint64 `json:"offset"`
	Text   string `json:"text"`
}

// toLines is a take that writes one JSON document a line. A character that is
// cut by the end of a piece waits for its rest.
func (a *app) toLines() func(brigv1.Channel, uint64, uint64, []byte) error {
	var rest [3][]byte
	enc := json.NewEncoder(a.Out)
	enc.SetEscapeHTML(false)
	return func(channel brigv1.Channel, offset, dropped uint64, data []byte) error {
		if dropped > 0 {
			rest[channel] = nil
		}
		offset -= uint64(len(rest[channel]))
		data = append(rest[channel], data...)
		whole := len(data) - cutRune(data)
		rest[channel] = append([]byte(nil), data[whole:]...)
		if whole == 0 {
			return nil
		}
		name := map[brigv1.Channel]string{brigv1.Channel_CHANNEL_STDOUT: "stdout", brigv1.Channel_CHANNEL_STDERR: "stderr"}[channel]
		return enc.Encode(logLine{Stream: name, Offset: offset, Text: string(data[:whole])})
	}
}

// cutRune is the length of an incomplete character at the end of b.
func cutRune(b []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(b); n++ {
		if tail := b[len(b)-n:]; utf8.RuneStart(tail[0]) {
			if utf8.FullRune(tail) {
				return 0
			}
			return n
		}
	}
	return 0
}
