// Command containerd-shim-brig-v1 is the shim that containerd starts for a container
// of runtime io.containerd.brig.v1.
package main

import (
	"context"

	"brig/shim"
)

func main() {
	shim.Run(context.Background(), network{}, gpus{})
}
