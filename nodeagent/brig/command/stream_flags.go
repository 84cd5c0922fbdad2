package command

import (
	"brig/nodeagent/brig/terminal"

	brigv1 "brig/nodeagent/api/brig/v1"
	"github.com/spf13/cobra"
)

// streamFlags say what the streams of a sandbox's own program are.
type streamFlags struct {
	stdin, tty bool
	overflow   string
}

// register says what is the default for output that nobody reads.
func (f *streamFlags) register(cmd *cobra.Command, overflow string) {
	fs := cmd.Flags()
	fs.BoolVarP(&f.stdin, "interactive", "i", false, "give the program a stdin; without, it is empty")
	fs.BoolVarP(&f.tty, "tty", "t", false, "give the program a terminal, which carries both outputs")
	fs.StringVar(&f.overflow, "overflow", overflow, "what becomes of output that exceeds what is kept and that nobody reads: `MODE` drop loses\n"+
		"the oldest, block makes the program wait")
}

// apply completes a create. The terminal has the size of this process's, if that is one.
func (f *streamFlags) apply(req *brigv1.CreateRequest, in any) error {
	modes := map[string]brigv1.Overflow{"drop": brigv1.Overflow_OVERFLOW_UNSPECIFIED, "block": brigv1.Overflow_OVERFLOW_BLOCK}
	mode, ok := modes[f.overflow]
	if !ok {
		return usagef("--overflow %q: use drop or block", f.overflow)
	}
	if (f.stdin || f.tty) && len(req.GetArgv()) == 0 {
		return usagef("-i and -t need a program; a sandbox that idles has none that would use them")
	}
	req.Stdin, req.Tty, req.Overflow = f.stdin, f.tty, mode
	if size := sizeOf(in); f.tty && size.Columns > 0 && size.Rows > 0 {
		req.Size = window(size)
	}
	return nil
}

// sizeOf the window of stream, if it is a terminal.
func sizeOf(stream any) terminal.Size {
	if tty, ok := asTerminal(stream); ok {
		return terminal.SizeOf(tty)
	}
	return terminal.Size{}
}
