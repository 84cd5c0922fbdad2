package wire

import (
	"github.com/containerd/errdefs/pkg/errgrpc"
	"google.golang.org/grpc/status"
)

// failure is err for the wire: its class and its one line. errgrpc alone would add
// whatever else err wraps as details, and clients print each of them as a line more.
func failure(err error) error {
	s, _ := status.FromError(errgrpc.ToGRPC(err))
	return status.Error(s.Code(), s.Message())
}
