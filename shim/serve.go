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
	dumpStacks(log)
	socket := os.NewFile(servedFD, "socket")
	defer socket.Close() // others look which socket it is
	unix.CloseOnExec(servedFD)
	send, err := events.Containerd(os.Getenv("TTRPC_ADDRESS"))
	if err != nil {
		return err
	}
	queue := events.New(namespace, send, log)
	tasks := task.New(task.Options{
		Namespace: namespace, Gate: m.gate, GPUs: gpus, Log: log,
		Emit: func(e task.Event) { queue.Emit(wire.Event(e)) },
	})
	prepare(tasks)

	removeSocket, err := servedSocket()
	if err != nil {
		return err
	}
	listener, err := net.FileListener(socket)
	if err != nil {
		return fmt.Errorf("the socket to serve: %w", err)
	}
	server, err := ttrpc.NewServer(ttrpc.WithServerHandshaker(ttrpc.UnixSocketRequireSameUser()))
	if err != nil {
		return err
	}
	ctx, down := shutdown.WithShutdown(ctx)
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
	go endWhenTold(ctx, told, func() { end(0) })
	go endUnused(ctx, tasks.Unused, bundleIsGone, func() { end(0) })
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

// dumpStacks writes every goroutine's stack to the log, on SIGUSR1.
func dumpStacks(log *slog.Logger) {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, unix.SIGUSR1)
	go func() {
		for range asked {
			log.Info("stacks", "goroutines", string(stacks()))
		}
	}()
}

// maxStacks bounds what a dump of stacks takes.
const maxStacks = 1 << 20

func stacks() []byte {
	text := make([]byte, maxStacks)
	return text[:runtime.Stack(text, true)]
}
