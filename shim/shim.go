// Package shim is containerd's runtime io.containerd.brig.v1: the verbs that
// containerd runs the binary with (start, delete, -info), and the process that
// serves the Task API for one sandbox. The sandbox's life itself is in package task.
//
// There is one process a sandbox, so that the end of one hurts no other. It is the
// sandbox's subreaper: the sentry's wait status is the program's exit status.
package shim

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"brig/internal/sandbox"
	"brig/internal/version"
	"brig/shim/events"
	"brig/shim/task"
	"brig/shim/wire"

	"github.com/containerd/containerd/v2/pkg/namespaces"
	containerd "github.com/containerd/containerd/v2/pkg/shim"
	"github.com/containerd/containerd/v2/pkg/shutdown"
	"github.com/containerd/containerd/v2/plugins"
	containerdversion "github.com/containerd/containerd/v2/version"
	"github.com/containerd/plugin"
	"github.com/containerd/plugin/registry"
	"github.com/containerd/ttrpc"
)

// Run is the whole program. It ends the process itself where containerd's package
// does so.
func Run(ctx context.Context, gate task.Gate, gpus task.GPUs) {
	if done, err := startLegacy(ctx, manager{gate}); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", sandbox.Runtime, err)
		os.Exit(1)
	} else if done {
		return
	}
	told := toldToEnd()
	registry.Register(&plugin.Registration{
		Type:     plugins.TTRPCPlugin,
		ID:       "task",
		Requires: []plugin.Type{plugins.InternalPlugin},
		InitFn:   func(ic *plugin.InitContext) (any, error) { return serve(ic, gate, gpus, told) },
	})
	// No reaper: every child is waited for by whoever started or adopted it. One that
	// collects all children would take their status from under os/exec.
	containerdversion.Version, containerdversion.Revision = version.Version, version.Revision() // what -v prints
	// No logger: stderr is the log already, see openLog.
	containerd.RunShim(ctx, manager{gate}, func(c *containerd.Config) { c.NoReaper, c.NoSetupLogger = true, true })
}

// flushTime bounds how long a shim outlives its task to deliver events.
const flushTime = 3 * time.Second

func serve(ic *plugin.InitContext, gate task.Gate, gpus task.GPUs, told <-chan os.Signal) (any, error) {
	namespace, err := namespaces.NamespaceRequired(ic.Context)
	if err != nil {
		return nil, err
	}
	if err := setLog(ic.Context); err != nil {
		return nil, err
	}
	internal, err := ic.GetByID(plugins.InternalPlugin, "shutdown")
	if err != nil {
		return nil, err
	}
	down := internal.(shutdown.Service)
	log := slog.New(slog.NewTextHandler(os.Stderr, nil)).With("component", "shim")
	slog.SetDefault(log)
	send, err := events.Containerd(ic.Properties[plugins.PropertyTTRPCAddress])
	if err != nil {
		return nil, err
	}
	queue := events.New(namespace, send, log)
	down.RegisterCallback(func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTime)
		defer cancel()
		return queue.Close(ctx)
	})
	removeSocket, err := servedSocket()
	if err != nil {
		return nil, err
	}
	down.RegisterCallback(func(context.Context) error {
		removeSocket()
		return nil
	})
	tasks := task.New(task.Options{
		Namespace: namespace, Gate: gate, GPUs: gpus, Log: log,
		Emit: func(e task.Event) { queue.Emit(wire.Event(e)) },
	})
	prepare(tasks)
	go endWhenTold(ic.Context, told, down.Shutdown)
	go endUnused(ic.Context, tasks.Unused, bundleIsGone, down.Shutdown)
	// The socket goes before the answer: containerd, which has one, forgets the sandbox, and
	// nobody would run the delete verb for a shim that is killed from then on.
	shutdown := func(after time.Duration) {
		removeSocket()
		time.AfterFunc(after, down.Shutdown)
	}
	return services{wire.NewTasks(tasks, shutdown), wire.NewSandboxes(tasks, shutdown)}, nil
}

// services on the shim's socket.
type services []containerd.TTRPCService

// RegisterTTRPC is how containerd's shim package finds them.
func (all services) RegisterTTRPC(s *ttrpc.Server) error {
	for _, one := range all {
		if err := one.RegisterTTRPC(s); err != nil {
			return err
		}
	}
	return nil
}

// manager answers containerd's verbs.
type manager struct{ gate task.Gate }

// Name of the runtime.
func (manager) Name() string { return sandbox.Runtime }
