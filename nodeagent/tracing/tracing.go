// Package tracing tells an OpenTelemetry collector where the time of a create or an exec
// goes, down to the shim and runsc.
//
// It is off unless the operator names a collector; then a call costs what asking a context
// for its span costs. A span has the names of the call and of its parts, the sandbox's id
// and an error's code. Nothing of a request is in it: no argv, environment, secret or
// error text; and nothing but a client's traceparent is taken from its headers, so no
// baggage travels. What a client wants traced is traced by the operator's ratio, not by
// the client's.
//
// A collector that is slow or away costs spans, never calls: they wait in a bounded queue.
package tracing

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"brig/internal/config"
	"brig/internal/phases"
	"brig/internal/version"
)

// scope names the spans' maker.
const scope = "brig"

// Provider sends spans; nil sends none.
type Provider struct {
	sdk *sdktrace.TracerProvider
}

// Open returns what sends to the collector of cfg; nil if there is none. The collector need
// not answer.
func Open(ctx context.Context, cfg config.Tracing, node string, log *slog.Logger) (*Provider, error) {
	if cfg.Endpoint == "" {
		return nil, nil
	}
	u, err := url.Parse(cfg.Endpoint)
	if err != nil {
		return nil, fmt.Errorf("tracing.endpoint: %w", err)
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/v1/traces"
	}
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(u.String()))
	if err != nil {
		return nil, fmt.Errorf("prepare to send traces: %w", err)
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		log.Debug("send traces", "component", "tracing", "err", err)
	}))
	ratio := sdktrace.TraceIDRatioBased(cfg.Ratio)
	return &Provider{sdk: sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(exporter, sdktrace.WithBatchTimeout(time.Second)),
		sdktrace.WithSampler(sdktrace.ParentBased(ratio, sdktrace.WithRemoteParentSampled(ratio))),
		sdktrace.WithResource(resource.NewSchemaless(
			attribute.String("service.name", "brigd"),
			attribute.String("service.version", version.Version),
			attribute.String("service.instance.id", node),
		)),
	)}, nil
}

// Close sends what is left, or gives up with ctx.
func (p *Provider) Close(ctx context.Context) error {
	if p == nil {
		return nil
	}
	if err := p.sdk.Shutdown(ctx); err != nil {
		return fmt.Errorf("send the last traces: %w", err)
	}
	return nil
}

// Start begins a part of what ctx is about, which end ends. Where nothing is traced it does
// nothing.
func Start(ctx context.Context, name string) (part context.Context, end func(error)) {
	parent := trace.SpanFromContext(ctx)
	if !parent.IsRecording() {
		return ctx, func(error) {}
	}
	part, span := parent.TracerProvider().Tracer(scope).Start(ctx, name)
	return part, func(err error) {
		if err != nil {
			span.SetStatus(codes.Error, "") // why is in brigd's answer, which may quote the request
		}
		span.End()
	}
}

// About says which sandbox the span of ctx is about.
func About(ctx context.Context, sandbox string) {
	if span := trace.SpanFromContext(ctx); span.IsRecording() {
		span.SetAttributes(attribute.String("brig.sandbox", sandbox))
	}
}

// Traced tells whether somebody will see what ctx is about.
func Traced(ctx context.Context) bool { return trace.SpanFromContext(ctx).IsRecording() }

// Add adds a part of what ctx is, or was, about that another process went through.
func Add(ctx context.Context, p phases.Phase) {
	_, span := trace.SpanFromContext(ctx).TracerProvider().Tracer(scope).Start(ctx, p.Name, trace.WithTimestamp(p.Begin))
	span.End(trace.WithTimestamp(p.End))
}
