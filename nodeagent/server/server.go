// Package server is the edge of brigd: the protocol brig.v1 over one unix socket, as
// gRPC, gRPC-Web and Connect, and brigd's metrics beside it. Here and nowhere else messages become values and back,
// errors get their codes, and a caller is what the kernel says of the connection.
//
// It is strict: a field that it does not know is an error, whatever the encoding, so
// that nothing a caller asks for is silently dropped. A message has a size limit.
package server

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"time"

	"connectrpc.com/connect"
	"github.com/containerd/errdefs"

	"brig/internal/config"
	"brig/nodeagent/api/brig/v1/brigv1connect"
	"brig/nodeagent/ca"
	"brig/nodeagent/engine"
	"brig/nodeagent/events"
	"brig/nodeagent/sandboxes"
	"brig/nodeagent/socket"
)

// maxMessage bounds one message, decompressed. A policy of a hundred thousand ranges
// fits.
const maxMessage = 8 << 20

// Server answers calls.
type Server struct {
	cfg     *config.Config
	manager *sandboxes.Manager
	engine  *engine.Engine
	ca      *ca.CA
	pool    func(context.Context) (string, error)
	events  *events.Hub
	metrics http.Handler
	log     *slog.Logger
}

// Parts are what a Server serves.
type Parts struct {
	Config  *config.Config
	Manager *sandboxes.Manager
	Engine  *engine.Engine
	CA      *ca.CA
	Pool    func(context.Context) (string, error) // where addresses come from
	Events  *events.Hub
	Metrics http.Handler // served at /metrics
	Log     *slog.Logger
}

// New returns a Server.
func New(p Parts) *Server {
	return &Server{cfg: p.Config, manager: p.Manager, engine: p.Engine, ca: p.CA, pool: p.Pool, events: p.Events, metrics: p.Metrics, log: p.Log}
}

// Handler is the whole protocol, and the metrics.
func (s *Server) Handler() http.Handler {
	opts := []connect.HandlerOption{
		connect.WithCodec(jsonCodec{name: "json"}),
		connect.WithCodec(jsonCodec{name: "json; charset=utf-8"}),
		connect.WithCodec(protoCodec{}),
		connect.WithReadMaxBytes(maxMessage),
		// Never: a client of this machine gains nothing by it, output would be as slow as
		// gzip, and a stream that nobody reads could be ahead of its reader without bound.
		connect.WithCompressMinBytes(math.MaxInt),
		connect.WithInterceptors(edge{log: s.log}),
		connect.WithRecover(s.recover),
	}
	mux := http.NewServeMux()
	mux.Handle(brigv1connect.NewSandboxesHandler(sandboxService{Server: s}, opts...))
	mux.Handle(brigv1connect.NewExecHandler(execService{Server: s}, opts...))
	mux.Handle(brigv1connect.NewTunnelsHandler(tunnelService{s}, opts...))
	mux.Handle(brigv1connect.NewImagesHandler(imageService{s}, opts...))
	mux.Handle(brigv1connect.NewNodeHandler(nodeService{Server: s}, opts...))
	mux.Handle("GET /metrics", s.metrics)
	return bounded(mux)
}

// Serve answers on l until ctx ends; calls in progress are cancelled then.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	calls, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	srv := &http.Server{
		Handler:           s.Handler(),
		Protocols:         &protocols,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: 1000},
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       5 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		BaseContext:       func(net.Listener) context.Context { return calls },
		ConnContext:       socket.WithPeer,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(l) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	cancel(errEnding)
	closing, done := context.WithTimeout(context.Background(), shutdownTimeout)
	defer done()
	if err := srv.Shutdown(closing); err != nil {
		return srv.Close()
	}
	return nil
}

// errEnding is what a call is told that brigd's end cut off: a client that can go on where
// it was asks again.
var errEnding = errdefs.ErrUnavailable.WithMessage("brigd is ending: ask again")

// shutdownTimeout is how long calls may take to notice that they are cancelled.
const shutdownTimeout = 10 * time.Second

func (s *Server) recover(_ context.Context, spec connect.Spec, _ http.Header, v any) error {
	s.log.Error("a call panicked", "procedure", spec.Procedure, "panic", v)
	return connect.NewError(connect.CodeInternal, fmt.Errorf("brigd met a bug in %s; its log has the details", spec.Procedure))
}
