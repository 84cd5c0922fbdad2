package wire

import (
	"errors"
	"fmt"

	"github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"
	"google.golang.org/protobuf/types/known/anypb"
)

// checkpointOptions reads runc's, the only ones that containerd lets through. Most of
// them are CRIU's: what a sandbox's kernel does anyway (terminals, file locks) or has
// no use for (a folder for logs) is accepted, what it cannot do is refused. The image's
// path is the request's.
func checkpointOptions(any *anypb.Any) (exit bool, err error) {
	if any == nil || any.TypeUrl == "" {
		return false, nil
	}
	v, err := typeurl.UnmarshalAny(any)
	if err != nil {
		return false, fmt.Errorf("checkpoint options: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	o, ok := v.(*options.CheckpointOptions)
	if !ok {
		return false, fmt.Errorf("checkpoint options of type %s: %w", any.TypeUrl, errdefs.ErrInvalidArgument)
	}
	var errs []error
	for _, refused := range []struct {
		asked  bool
		reason string
	}{
		{o.OpenTcp, "open_tcp: connections to the outside end where a sandbox is restored"},
		{o.ExternalUnixSockets, "external_unix_sockets: a sandbox has none"},
		{len(o.EmptyNamespaces) > 0, "empty_namespaces: a restored sandbox has the namespaces of its new spec"},
		{o.CgroupsMode != "", "cgroups_mode: a restored sandbox has the cgroup of its new spec"},
	} {
		if refused.asked {
			errs = append(errs, fmt.Errorf("checkpoint options: %s: %w", refused.reason, errdefs.ErrInvalidArgument))
		}
	}
	return o.Exit, errors.Join(errs...)
}
