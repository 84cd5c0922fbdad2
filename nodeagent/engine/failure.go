package engine

import (
	"errors"

	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"google.golang.org/grpc/status"
)

// native gives an error of containerd's wire its class back. Parts of the client do
// so themselves; a second time it would be lost.
func native(err error) error {
	var wire interface{ GRPCStatus() *status.Status }
	if err == nil || !errors.As(err, &wire) {
		return err
	}
	return errgrpc.ToNative(err)
}

// gone drops the errors of which there is nothing to remove.
func gone(err error) error {
	if err = native(err); errdefs.IsNotFound(err) {
		return nil
	}
	return err
}

// join joins the errors that are not about things already gone.
func join(errs ...error) error {
	for i := range errs {
		errs[i] = gone(errs[i])
	}
	return errors.Join(errs...)
}
