// Package shim is containerd's runtime io.containerd.brig.v1: the verbs that
// containerd runs the binary with (start, delete, -info), and the process that
// serves the Task API for one sandbox. The sandbox's life itself is in package task.
//
// There is one process a sandbox, so that the end of one hurts no other. It is the
// sandbox's subreaper: the sentry's wait status is the program's exit status.
//
// containerd has a package for shims, whose sockets and addresses are used here. Its frame
// is not: it collects garbage twice a minute for as long as a sandbox idles (see memory.go).
package shim

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"

	"brig/internal/sandbox"
	"brig/internal/version"
	"brig/shim/task"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/pkg/protobuf"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
)

// Run is the whole program: it answers a verb, or serves a sandbox until its end. Of the
// process it takes arguments, environment, folder and descriptors; an error ends it with
// status 1 and one line on stderr.
func Run(ctx context.Context, gate task.Gate, gpus task.GPUs) {
	if err := run(ctx, gate, gpus); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", sandbox.Runtime, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, gate task.Gate, gpus task.GPUs) error {
	f, err := parseFlags(os.Args[1:])
	if err != nil {
		return err
	}
	m := manager{gate, f}
	if f.version {
		_, err := fmt.Printf("%s:\n  Version:  %s\n  Revision: %s\n  Go version: %s\n\n",
			filepath.Base(os.Args[0]), version.Version, version.Revision(), runtime.Version())
		return err
	}
	if f.info {
		info, err := m.Info(ctx, os.Stdin)
		if err != nil {
			return err
		}
		return answer(info)
	}
	ctx = namespaces.WithNamespace(ctx, f.namespace)
	// No verb is cut off by a signal, nor because nobody hears what it says any more.
	told := toldToEnd()
	signal.Notify(make(chan os.Signal, 1), unix.SIGPIPE)
	switch f.verb {
	case "start":
		return m.start(ctx)
	case "delete":
		status, err := m.Stop(ctx, f.id)
		if err != nil {
			return err
		}
		return answer(&taskapi.DeleteResponse{Pid: uint32(status.Pid), ExitStatus: uint32(status.ExitStatus), ExitedAt: protobuf.ToTimestamp(status.ExitedAt)})
	case "":
		return m.serve(ctx, gpus, told)
	}
	return fmt.Errorf("unknown verb %q: containerd says start or delete", f.verb)
}

// manager answers containerd's verbs.
type manager struct {
	gate  task.Gate
	flags flags
}

// answer a verb, where containerd reads it.
func answer(m proto.Message) error {
	data, err := proto.Marshal(m)
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(data)
	return err
}
