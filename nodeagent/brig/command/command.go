// Package command is the command line of brig: it parses, calls brigd through
// package client and prints. Its contract: results go to stdout, everything
// else to stderr; every command takes --json; an error is one line that begins
// with "brig: " and says what to do; the exit status is the program's own for
// run, exec and wait and tells the verdict for policy explain (125 if brig itself
// failed there), else 0, 1 for a failure and 2 for a wrong invocation.
package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"brig/internal/config"
	"brig/nodeagent/brig/client"
	"github.com/spf13/cobra"
)

// Streams are the three files of the process.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// Exit statuses of brig itself.
const (
	statusFailed  = 1
	statusUsage   = 2
	statusProgram = 125 // brig failed where a program's status was asked for
)

// app is what every command shares.
type app struct {
	Streams
	socket string
	json   bool

	remote client.Remote
	far    *client.Client // set if a remote node was named
}

// Main runs one command line and returns its exit status.
func Main(ctx context.Context, streams Streams, args []string) int {
	root := New(streams)
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	var status exitStatus
	switch {
	case err == nil:
		return 0
	case errors.As(err, &status):
		return int(status)
	}
	fmt.Fprintf(streams.Err, "brig: %s\n", client.Describe(err))
	var usage *usageError
	switch {
	case errors.As(err, &usage):
		fmt.Fprintf(streams.Err, "try: %s --help\n", cmd.CommandPath())
		return statusUsage
	case cmd.Annotations[exitsAsProgram] != "":
		return statusProgram
	}
	return statusFailed
}

// exitsAsProgram marks the commands whose status is a program's.
const exitsAsProgram = "exits-as-program"

// exitStatus ends brig with a program's status and without a message.
type exitStatus int

func (s exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// exitWith is nil for 0.
func exitWith(code int32) error {
	if code == 0 {
		return nil
	}
	return exitStatus(code)
}

// usageError is a wrong invocation.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// client connects to the address that was named, else to the socket that the flag, the
// environment or the default names.
func (a *app) client() *client.Client {
	if a.far != nil {
		return a.far
	}
	return client.New(a.socketPath())
}

// connect reads which node is meant. A socket that a flag names wins over an address that
// the environment does.
func (a *app) connect() (err error) {
	for _, from := range []struct {
		to  *string
		env string
	}{{&a.remote.Address, "BRIG_ADDRESS"}, {&a.remote.Cert, "BRIG_CERT"}, {&a.remote.Key, "BRIG_KEY"}, {&a.remote.CA, "BRIG_CA"}} {
		if *from.to == "" && a.socket == "" {
			*from.to = os.Getenv(from.env)
		}
	}
	if a.socket != "" && a.remote != (client.Remote{}) {
		return usagef("--socket is for a node on this machine: leave out --address, --cert, --key and --ca")
	}
	if a.remote == (client.Remote{}) {
		return nil
	}
	if a.far, err = client.Dial(a.remote); err != nil {
		return &usageError{err}
	}
	return nil
}

func (a *app) socketPath() string {
	if a.socket != "" {
		return a.socket
	}
	if s := os.Getenv("BRIG_SOCKET"); s != "" {
		return s
	}
	return config.Defaults().Socket
}

// printJSON writes v as one indented document.
func (a *app) printJSON(v any) error {
	enc := json.NewEncoder(a.Out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// positional accepts between least and most arguments, or fails with how the
// command is written.
func positional(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < least || len(args) > most {
			return usagef("expected: %s", cmd.UseLine())
		}
		return nil
	}
}
