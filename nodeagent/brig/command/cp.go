package command

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"brig/nodeagent/brig/progress"
	"brig/nodeagent/brig/terminal"

	"github.com/spf13/cobra"
)

func (a *app) cpCommand() *cobra.Command {
	var c copying
	cmd := &cobra.Command{
		Use:   "cp [flags] SANDBOX:PATH LOCAL|-\n  brig cp [flags] LOCAL|- SANDBOX:PATH",
		Short: "Copy files between a running sandbox and this machine",
		Long: "Copy a file or a whole tree out of a running sandbox, or into it. The image needs no tar.\n\n" +
			"If the destination is a directory, the copy is made in it, under the source's name; otherwise it is\n" +
			"made as the destination, whose parent must be there. A file that is there is replaced; a directory\n" +
			"that is there is replaced as a whole with --replace, and else refused: nothing is merged. What is\n" +
			"copied appears when all of it has arrived, or not at all.\n\n" +
			"With - a tar archive is written to stdout or read from stdin. Such an archive comes from the sandbox:\n" +
			"unpack it with care. Links are copied as links and never followed, except that a source that ends in /\n" +
			"is what it leads to. Devices, FIFOs and sockets are left out. The copy belongs to whoever makes it: the\n" +
			"sandbox's user there, you here, and setuid and setgid are dropped.",
		Example: "  brig cp SANDBOX:/app/result.json .\n" +
			"  brig cp ./project SANDBOX:/app\n" +
			"  brig cp SANDBOX:/app - | tar -t",
		Args:              positional(2, 2),
		ValidArgsFunction: a.completeSandbox,
		RunE: func(cmd *cobra.Command, args []string) error {
			// An interrupted copy takes its half back.
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
			defer stop()
			return a.cp(ctx, c, args[0], args[1])
		},
	}
	cmd.Flags().BoolVar(&c.replace, "replace", false, "replace a directory that is there, as a whole")
	c.max = 64 << 30
	cmd.Flags().Var(&c.max, "max-size", "most that is taken out of a sandbox, in `BYTES`, or with K, M, G or T")
	return cmd
}

// copying is one call of brig cp.
type copying struct {
	replace bool
	max     size
}

// copied is brig cp --json.
type copied struct {
	Source      string `json:"source"`
	Destination string `json:"destination"`
	Bytes       uint64 `json:"bytes"` // in files
}

func (a *app) cp(ctx context.Context, c copying, from, to string) (err error) {
	source, out := sandboxPath(from)
	dest, in := sandboxPath(to)
	if out == in {
		return usagef("one of %q and %q must be SANDBOX:PATH, and the other one a local path or -", from, to)
	}
	meter := progress.Start(a.Err, terminal.Is(a.Err), "copying "+from)
	show := func(n uint64) { meter.Update(n, 0) }
	done := copied{Source: from, Destination: to}
	if out {
		done.Bytes, err = a.copyOut(ctx, c, source, to, show)
	} else {
		done.Bytes, err = a.copyIn(ctx, c, from, dest, show)
	}
	meter.End("")
	if err != nil || !a.json || to == dash {
		return err
	}
	return a.printJSON(done)
}

// dash stands for stdin or stdout.
const dash = "-"

// remote is a path in a sandbox.
type remote struct{ sandbox, path string }

// sandboxPath takes SANDBOX:PATH apart. What begins with . or / is local, and so is what
// has a slash before its colon.
func sandboxPath(arg string) (remote, bool) {
	sandbox, path, found := strings.Cut(arg, ":")
	if !found || sandbox == "" || strings.HasPrefix(arg, ".") || strings.Contains(sandbox, "/") {
		return remote{}, false
	}
	if path == "" {
		path = "."
	}
	return remote{sandbox: sandbox, path: path}, true
}

// size is a flag of bytes.
type size uint64

var sizes = map[string]uint64{"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}

// Set reads 64G, and also 64GiB.
func (s *size) Set(text string) error {
	number, unit := text, uint64(1)
	for name, factor := range sizes {
		if cut, found := strings.CutSuffix(strings.TrimSuffix(text, "iB"), name); found {
			number, unit = cut, factor
		}
	}
	var n uint64
	if _, err := fmt.Sscanf(number+"\n", "%d\n", &n); err != nil || n == 0 || n > 1<<62/unit {
		return fmt.Errorf("%q: write it as 500M, 64G or a number of bytes", text)
	}
	*s = size(n * unit)
	return nil
}

// String is the value for help.
func (s *size) String() string {
	for _, name := range []string{"T", "G", "M", "K"} {
		if factor := sizes[name]; uint64(*s) >= factor && uint64(*s)%factor == 0 {
			return fmt.Sprintf("%d%s", uint64(*s)/factor, name)
		}
	}
	return fmt.Sprint(uint64(*s))
}

// Type names it in help.
func (s *size) Type() string { return "size" }
