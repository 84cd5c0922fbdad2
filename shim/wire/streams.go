package wire

import (
	"context"

	"brig/shim/stdio"

	"github.com/containerd/containerd/v2/pkg/namespaces"
)

// streamed is a request that makes a process.
type streamed interface {
	GetStdin() string
	GetStdout() string
	GetStderr() string
	GetTerminal() bool
}

// streams of the process id, a container's or an exec's.
func streams(ctx context.Context, id string, r streamed) stdio.Config {
	namespace, _ := namespaces.Namespace(ctx) // without one a logger is told none
	return stdio.Config{
		Stdin: r.GetStdin(), Stdout: r.GetStdout(), Stderr: r.GetStderr(), Terminal: r.GetTerminal(),
		ID: id, Namespace: namespace,
	}
}
