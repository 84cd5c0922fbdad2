// Command containerd-shim-brig-v1 is the shim that containerd starts for a container
// of runtime io.containerd.brig.v1.
package main

import (
	"context"

	"brig/shim"
)

func main() {
	// containerd's package parses the flags, and ends the process on errors.
	shim.Run(context.Background(), network{}, gpus{})
}
