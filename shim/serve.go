package shim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime"
	"time"

	"brig/shim/events"
	"brig/shim/task"
	"brig/shim/wire"

	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/pkg/shutdown"
	"github.com/containerd/ttrpc"
	"golang.org/x/sys/unix"
)

// flushTime bounds how long a shim outlives its task to deliver events.
const flushTime = 3 * time.Second

// serve the Task API on the socket that spawn has handed down, until containerd or a signal
// tells the process to end.
func (m manager) serve(ctx context.Context, gpus task.GPUs, told <-chan os.Signal) error {
	namespace, err := namespaces.NamespaceRequired(ctx)
	if err != nil {
		return err
	}
	if err := setLog(m.flags.debug); err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil)).With("component", "shim")
	slog.SetDefault(log)
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become the sandbox's subreaper: %w", err)
	}
	keepSmall()
	var queue *events.Queue
	tasks := task.New(task.Options{
		Namespace: namespace, Gate: m.gate, GPUs: gpus, Log: log,
		Emit: func(e task.Event) { queue.Emit(wire.Event(e)) },
	})
	prepare(tasks)
	heedSignals(log)
	send, err := events.Containerd(os.Getenv("TTRPC_ADDRESS"))
	if err != nil {
		return err
	}
	removeSocket, err := servedSocket()
	if err != nil {
		return err
	}
	listener, err := net.FileListener(os.NewFile(servedFD, "socket"))
	if err != nil {
		return fmt.Errorf("the socket to serve: %w", err)
	}
	server, err := ttrpc.NewServer(ttrpc.WithServerHandshaker(ttrpc.UnixSocketRequireSameUser()))
	if err != nil {
		return err
	}

	ctx, down := shutdown.WithShutdown(ctx)
	queue = events.New(namespace, send, log)
	down.RegisterCallback(func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTime)
		defer cancel()
		return queue.Close(ctx)
	})
	// The socket goes before the answer: containerd, which has one, forgets the sandbox, and
	// nobody would run the delete verb for a shim that is killed from then on.
	end := func(after time.Duration) {
		removeSocket()
		time.AfterFunc(after, down.Shutdown)
	}
	wire.NewTasks(tasks, end).Register(server)
	wire.NewSandboxes(tasks, end).Register(server)

	defer removeSocket()
	go endWhenTold(ctx, told, down.Shutdown)
	go endUnused(ctx, tasks.Unused, bundleIsGone, down.Shutdown)
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(ctx, listener) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve %s: %w", listener.Addr(), err)
	case <-down.Done():
	}
	if err := down.Err(); !errors.Is(err, shutdown.ErrShutdown) {
		log.Error("end", "error", err)
	}
	return nil
}

// heedSignals: on SIGUSR1 the log gets every goroutine's stack. What is said to a containerd
// that has gone is no reason to end.
func heedSignals(log *slog.Logger) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGPIPE, unix.SIGUSR1)
	go func() {
		for s := range signals {
			if s == unix.SIGUSR1 {
				log.Info("stacks", "goroutines", string(stacks()))
			}
		}
	}()
}

// maxStacks bounds what a dump of stacks takes.
const maxStacks = 1 << 20

func stacks() []byte {
	text := make([]byte, maxStacks)
	return text[:runtime.Stack(text, true)]
}
