package server

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"connectrpc.com/connect"
	"github.com/containerd/errdefs"
)

func TestFailure(t *testing.T) {
	for _, tc := range []struct {
		in   error
		want string
	}{
		{errdefs.ErrInvalidArgument.WithMessage("port 0"), "invalid_argument: port 0"},
		{fmt.Errorf("look: %w", errdefs.ErrNotFound.WithMessage("nobody")), "not_found: look: nobody"},
		{errdefs.ErrAlreadyExists.WithMessage("taken"), "already_exists: taken"},
		{errdefs.ErrFailedPrecondition.WithMessage("the gate"), "failed_precondition: the gate"},
		{errdefs.ErrUnavailable.WithMessage("later"), "unavailable: later"},
		{errdefs.ErrNotImplemented.WithMessage("domains"), "unimplemented: domains"},
		{context.Canceled, "canceled: context canceled"},
		{context.DeadlineExceeded, "deadline_exceeded: context deadline exceeded"},
		{errors.Join(errors.New("one"), errors.New("two")), "internal: one; two"},
		{connect.NewError(connect.CodeAborted, errors.New("as it is")), "aborted: as it is"},
	} {
		if got := failure(tc.in).Error(); got != tc.want {
			t.Errorf("%v: %q; want %q", tc.in, got, tc.want)
		}
	}
	if failure(nil) != nil {
		t.Error("no error became one")
	}
}
