package daemon

import (
	"context"
	"errors"
	"net"

	"brig/nodeagent/admission"
	"brig/nodeagent/api/brig/v1/brigv1connect"
	"brig/nodeagent/descriptors"
	"brig/nodeagent/notify"
	"brig/nodeagent/remote"
	"brig/nodeagent/server"
	"brig/nodeagent/socket"
	"brig/nodeagent/tracing"
)

// maxConnections bounds the connections to the API; where fewer files may be open, half
// of those.
const maxConnections = 8192

// serve answers calls on the socket and, if the operator wants it, over TCP.
func (d *daemon) serve(ctx context.Context) (err error) {
	limit, err := descriptors.Ready()
	if err != nil {
		return err
	}
	gate := admission.New("connections", "quotas.connections", int(d.Config.Quotas.Connections), int(min(limit/2, maxConnections)))
	door := socket.NewDoor(gate, d.Log)
	local, err := socket.Listen(d.Config.Socket)
	if err != nil {
		return err
	}
	defer local.Close() // and the socket's file with it
	listeners := []net.Listener{socket.Admit(local, door)}
	if d.Config.Remote.Listen != "" {
		far, err := remote.Listen(d.Config.Remote, door, d.Log)
		if err != nil {
			return err
		}
		defer far.Close()
		listeners = append(listeners, far)
		d.Log.Info("remote callers are served", "listen", far.Addr())
	}
	if d.tracing, err = tracing.Open(ctx, d.Config.Tracing, d.Config.Node, d.Log); err != nil {
		return err
	}
	srv := server.New(server.Parts{
		Config: d.Config, Manager: d.manager, Engine: d.engine, CA: d.ca, Pool: d.pool, Verify: d.verify, Ready: d.engine.Ready,
		Events: d.events, Metrics: d.metrics.Handler(), Called: d.metrics.Called, Sent: d.metrics.SandboxOutput,
		Tracing: d.tracing.Interceptor(
			brigv1connect.SandboxesCreateProcedure, brigv1connect.SandboxesRemoveProcedure, brigv1connect.SandboxesSnapshotProcedure, brigv1connect.SandboxesCheckpointProcedure,
			brigv1connect.ExecRunProcedure, brigv1connect.ExecStartProcedure, brigv1connect.ExecStreamProcedure,
		),
		Log: d.Log,
	})
	return d.answer(ctx, srv, listeners)
}

// answer serves until ctx ends or one of the listeners fails.
func (d *daemon) answer(ctx context.Context, srv *server.Server, listeners []net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, len(listeners))
	for _, l := range listeners {
		go func() { ended <- srv.Serve(ctx, l) }()
	}
	if err := errors.Join(d.Ready(), notify.Ready()); err != nil {
		d.Log.Warn("tell that brigd serves", "err", err)
	}
	d.goWork(func() { d.keepAlive(ctx) })
	err := <-ended
	cancel()
	for range listeners[1:] {
		err = errors.Join(err, <-ended)
	}
	d.Log.Info("brigd ends")
	return errors.Join(err, notify.Stopping())
}
