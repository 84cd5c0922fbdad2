package server

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"brig/nodeagent/socket"
)

// edge gives every error its code, counts and logs every call, and leaves the audit's
// lines. It is the only place that does any of it.
type edge struct {
	log    *slog.Logger
	called func(procedure, code string)
}

func (e edge) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, r connect.AnyRequest) (connect.AnyResponse, error) {
		begin := time.Now()
		answer, err := next(ctx, r)
		ref := subject(r.Any())
		if err == nil {
			if ref == "" {
				ref = subject(answer.Any())
			}
			err = charge(ctx, answer.Any())
		}
		if err = e.pass(ctx, r.Spec(), begin, ref, err); err != nil {
			return nil, err
		}
		return answer, nil
	}
}

func (e edge) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, c connect.StreamingHandlerConn) error {
		begin := time.Now()
		l := &listening{StreamingHandlerConn: c}
		err := next(ctx, l)
		return e.pass(ctx, c.Spec(), begin, l.about(), err)
	}
}

func (edge) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

func (e edge) pass(ctx context.Context, spec connect.Spec, begin time.Time, ref string, err error) error {
	pass(ctx)
	if err != nil && errors.Is(context.Cause(ctx), errEnding) {
		err = errEnding // whatever the step under way made of it
	}
	err = failure(err)
	code := "ok"
	if err != nil {
		code = connect.CodeOf(err).String()
	}
	e.called(spec.Procedure, code)
	if audited(spec.Procedure, err) {
		audit(ctx, e.log, spec.Procedure, ref, code)
	}
	attrs := []any{"component", "api", "procedure", spec.Procedure, "uid", socket.From(ctx).UID, "took", time.Since(begin).Round(time.Millisecond)}
	switch {
	case err == nil:
		e.log.Debug("answered", attrs...)
	case connect.CodeOf(err) == connect.CodeInternal:
		e.log.Error("answered", append(attrs, "err", err)...)
	default:
		e.log.Debug("answered", append(attrs, "err", err)...)
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
	for _, short := range []unix.Errno{unix.ENOSPC, unix.EDQUOT, unix.EMFILE, unix.ENFILE} {
		if errors.Is(err, short) {
			return connect.CodeResourceExhausted // the node is short of it, whoever asks
		}
	}
	return connect.CodeInternal
}

func oneLine(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
}
