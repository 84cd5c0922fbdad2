package server

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/containerd/errdefs"

	"brig/nodeagent/socket"
)

// edge gives every error its code and logs every call. It is the only place that
// does either.
type edge struct{ log *slog.Logger }

func (e edge) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, r connect.AnyRequest) (connect.AnyResponse, error) {
		begin := time.Now()
		answer, err := next(ctx, r)
		return answer, e.pass(ctx, r.Spec(), begin, err)
	}
}

func (e edge) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, c connect.StreamingHandlerConn) error {
		begin := time.Now()
		return e.pass(ctx, c.Spec(), begin, next(ctx, c))
	}
}

func (edge) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

func (e edge) pass(ctx context.Context, spec connect.Spec, begin time.Time, err error) error {
	if err != nil && errors.Is(context.Cause(ctx), errEnding) {
		err = errEnding // whatever the step under way made of it
	}
	err = failure(err)
	uid, _ := socket.Peer(ctx)
	attrs := []any{"procedure", spec.Procedure, "uid", uid, "took", time.Since(begin).Round(time.Millisecond)}
	switch {
	case err == nil:
		e.log.Debug("call", attrs...)
	case connect.CodeOf(err) == connect.CodeInternal:
		e.log.Error("call", append(attrs, "err", err)...)
	default:
		e.log.Info("call", append(attrs, "err", err)...)
	}
	return err
}

// failure maps an error's class to its code; the text stays, on one line.
func failure(err error) error {
	var known *connect.Error
	if err == nil || errors.As(err, &known) {
		return err
	}
	return connect.NewError(code(err), errors.New(oneLine(err.Error())))
}

func code(err error) connect.Code {
	for _, class := range []struct {
		is   func(error) bool
		code connect.Code
	}{
		{errdefs.IsInvalidArgument, connect.CodeInvalidArgument},
		{errdefs.IsNotFound, connect.CodeNotFound},
		{errdefs.IsAlreadyExists, connect.CodeAlreadyExists},
		{errdefs.IsFailedPrecondition, connect.CodeFailedPrecondition},
		{errdefs.IsResourceExhausted, connect.CodeResourceExhausted},
		{errdefs.IsPermissionDenied, connect.CodePermissionDenied},
		{errdefs.IsUnauthorized, connect.CodePermissionDenied},
		{errdefs.IsNotImplemented, connect.CodeUnimplemented},
		{errdefs.IsOutOfRange, connect.CodeOutOfRange},
		{errdefs.IsDataLoss, connect.CodeDataLoss},
		{errdefs.IsCanceled, connect.CodeCanceled},
		{errdefs.IsDeadlineExceeded, connect.CodeDeadlineExceeded},
		{errdefs.IsUnavailable, connect.CodeUnavailable},
		{errdefs.IsAborted, connect.CodeAborted},
	} {
		if class.is(err) {
			return class.code
		}
	}
	return connect.CodeInternal
}

func oneLine(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
}

// ignoreEnded drops the errors of a program that has ended meanwhile.
func ignoreEnded(err error) error {
	if errdefs.IsNotFound(err) || errdefs.IsFailedPrecondition(err) {
		return nil
	}
	return err
}
