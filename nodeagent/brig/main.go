// Command brig is the command line of a node: it speaks the brig.v1 protocol to
// brigd over a unix socket and does nothing by itself. See package command.
package main

import (
	"context"
	"os"
	"runtime/debug"

	"brig/nodeagent/brig/command"
)

func main() {
	// Little is alive and every piece of a program's output is garbage: collecting at each
	// few megabytes of it would cost more than passing it on.
	debug.SetGCPercent(1000)
	os.Exit(command.Main(context.Background(), command.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}, os.Args[1:]))
}
