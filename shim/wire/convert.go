package wire

import (
	"encoding/json"
	"errors"
	"fmt"

	"brig/internal/config"

	"github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/containerd/api/types/runtimeoptions/v1"
	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

func decodeJSON(encoded *anypb.Any, into any) error {
	if encoded == nil {
		return errors.New("missing")
	}
	return json.Unmarshal(encoded.Value, into)
}

// configuration is the node's, or the one that the caller's runtime options name. A
// caller that insists on sending runc's options may send empty ones; containerd's CRI
// plugin puts the address of a pod's shim in them, which is ours.
func configuration(any *anypb.Any) (*config.Config, error) {
	if any == nil || any.TypeUrl == "" {
		return load(config.Path(""))
	}
	v, err := typeurl.UnmarshalAny(any)
	if err != nil {
		return nil, fmt.Errorf("runtime options: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	switch o := v.(type) {
	case *runtimeoptions.Options:
		if len(o.ConfigBody) > 0 {
			cfg := config.Defaults()
			if err := config.Parse(o.ConfigBody, &cfg); err != nil {
				return nil, fmt.Errorf("runtime options: config body: %w: %w", err, errdefs.ErrInvalidArgument)
			}
			return &cfg, nil
		}
		return load(config.Path(o.ConfigPath))
	case *options.Options:
		o.CriuImagePath, o.CriuWorkPath = "", ""   // a checkpoint to restore: it is in the request, too
		o.TaskApiAddress, o.TaskApiVersion = "", 0 //nolint:staticcheck // containerd 2.x still sets them
		if !proto.Equal(o, new(options.Options)) {
			return nil, fmt.Errorf("runtime options: runc's have no meaning here, leave them empty: %w", errdefs.ErrInvalidArgument)
		}
		return load(config.Path(""))
	}
	return nil, fmt.Errorf("runtime options of type %s: %w", any.TypeUrl, errdefs.ErrInvalidArgument)
}

func load(path string) (*config.Config, error) {
	cfg, err := config.Load(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, errdefs.ErrFailedPrecondition)
	}
	return &cfg, nil
}
