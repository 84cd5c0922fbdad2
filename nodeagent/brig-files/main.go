// Brig-files runs inside sandboxes, one for every call of brig.v1.Files, and does there
// what the call asks for:
//
//	brig-files REQUEST
//
// See package guest. It belongs to no user: brigd runs it. It is not one program with
// brig-idle because that one lives in every idle sandbox, and should be small.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"brig/nodeagent/files/guest"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: brig-files REQUEST; brigd runs it")
		os.Exit(2)
	}
	// A read of a file that may block is not ended by Close.
	in := os.Stdin
	if syscall.SetNonblock(0, true) == nil {
		in = os.NewFile(0, "stdin")
	}
	// Told to end, it ends what it does as if nothing more came, and cleans up.
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	go func() { <-told; _ = in.Close() }()
	os.Exit(guest.Serve(os.Args[1], in, os.Stdout))
}
