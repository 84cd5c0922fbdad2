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
	os.Exit(guest.Serve(os.Args[1], in, os.Stdout))
}
