package shim

import (
	"errors"
	"os"

	"brig/shim/wire"

	bootapi "github.com/containerd/containerd/api/runtime/bootstrap/v1"
	"github.com/containerd/containerd/api/types/runtimeoptions/v1"
	"github.com/containerd/typeurl/v2"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// optionsFile, in the bundle, keeps the runtime options that the server is started
// with: unlike a task's create, that of a pod does not repeat them.
const optionsFile = "options.pb"

func saveOptions(p *bootapi.BootstrapParams) error {
	given := new(runtimeoptions.Options)
	if ok, err := p.FindExtension(given); !ok || err != nil {
		return err
	}
	encoded, err := typeurl.MarshalAnyToProto(given)
	if err != nil {
		return err
	}
	data, err := proto.Marshal(encoded)
	if err != nil {
		return err
	}
	return os.WriteFile(optionsFile, data, 0o600)
}

func savedOptions() (*anypb.Any, error) {
	data, err := os.ReadFile(optionsFile)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return wire.DecodeOptions(data)
}
