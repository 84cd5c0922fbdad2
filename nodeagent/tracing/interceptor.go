package tracing

import (
	"context"
	"net/http"
	"strings"

	"connectrpc.com/connect"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// Interceptor makes a span of each call of procedures, below the client's, if it sent a
// traceparent. nil for a nil Provider.
func (p *Provider) Interceptor(procedures ...string) connect.Interceptor {
	if p == nil {
		return nil
	}
	i := interceptor{tracer: p.sdk.Tracer(scope), traced: map[string]bool{}}
	for _, name := range procedures {
		i.traced[name] = true
	}
	return i
}

type interceptor struct {
	tracer trace.Tracer
	traced map[string]bool
}

// begin starts a call's span. Of the headers traceparent alone is read: tracestate may hold
// whatever a client likes.
func (i interceptor) begin(ctx context.Context, spec connect.Spec, headers http.Header) (context.Context, func(error)) {
	carrier := propagation.MapCarrier{"traceparent": headers.Get("traceparent")}
	ctx = propagation.TraceContext{}.Extract(ctx, carrier)
	name := strings.TrimPrefix(spec.Procedure, "/")
	service, method, _ := strings.Cut(name, "/")
	ctx, span := i.tracer.Start(ctx, name, trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(
		attribute.String("rpc.system", "connect_rpc"), attribute.String("rpc.service", service), attribute.String("rpc.method", method),
	))
	return ctx, func(err error) {
		if err != nil {
			span.SetAttributes(attribute.String("rpc.connect_rpc.error_code", connect.CodeOf(err).String()))
			span.SetStatus(codes.Error, "")
		}
		span.End()
	}
}

// WrapUnary is connect's.
func (i interceptor) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, r connect.AnyRequest) (connect.AnyResponse, error) {
		if !i.traced[r.Spec().Procedure] {
			return next(ctx, r)
		}
		ctx, end := i.begin(ctx, r.Spec(), r.Header())
		answer, err := next(ctx, r)
		end(err)
		return answer, err
	}
}

// WrapStreamingHandler is connect's.
func (i interceptor) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, c connect.StreamingHandlerConn) error {
		if !i.traced[c.Spec().Procedure] {
			return next(ctx, c)
		}
		ctx, end := i.begin(ctx, c.Spec(), c.RequestHeader())
		err := next(ctx, c)
		end(err)
		return err
	}
}

// WrapStreamingClient is connect's; brigd is no client.
func (interceptor) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}
