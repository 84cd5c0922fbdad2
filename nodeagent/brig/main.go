// Command brig is the command line of a node: it speaks the brig.v1 protocol to
// brigd over a unix socket and does nothing by itself. See package command.
package main

import (
	"context"
	"os"

	"brig/nodeagent/brig/command"
)

func main() {
	os.Exit(command.Main(context.Background(), command.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}, os.Args[1:]))
}
