package wire

import (
	"fmt"
	"slices"
	"strings"

	"brig/internal/config"

	"github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/containerd/api/types/runtimeoptions/v1"
	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
)

// Options are what a caller's runtime options mean to brig.
type Options struct {
	// Config is the node's configuration, or the one that the caller names or sends.
	Config *config.Config
	// SystemdCgroup insists on a cgroup path that means a unit of systemd.
	SystemdCgroup bool
}

// ParseOptions reads the options of whatever client: none (ctr, nerdctl, docker), those
// of CRI with a path or an inline body, or runc's. What brig cannot honour it refuses.
func ParseOptions(any *anypb.Any) (Options, error) {
	if any.GetTypeUrl() == "" {
		return withConfig("")
	}
	v, err := typeurl.UnmarshalAny(any)
	if err != nil {
		return Options{}, fmt.Errorf("runtime options: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	switch o := v.(type) {
	case *runtimeoptions.Options:
		return parseGeneric(o)
	case *options.Options:
		return parseRunc(o)
	}
	return Options{}, fmt.Errorf("runtime options of type %s: brig takes those of CRI and runc's: %w", any.TypeUrl, errdefs.ErrInvalidArgument)
}

// configType is what the type of a configuration may be called; nothing else has one.
const configType = "io.containerd.brig.v1.options"

// parseGeneric reads what CRI makes of a runtime's options table: a path, or else the
// whole table as it stands.
func parseGeneric(o *runtimeoptions.Options) (Options, error) {
	if t := o.GetTypeUrl(); t != "" && t != configType {
		return Options{}, fmt.Errorf("runtime options: a configuration of type %q is not brig's: leave TypeUrl out: %w", t, errdefs.ErrInvalidArgument)
	}
	if len(o.GetConfigBody()) == 0 || o.GetConfigPath() != "" {
		return withConfig(o.GetConfigPath())
	}
	cfg := config.Defaults()
	if err := config.Parse(o.GetConfigBody(), &cfg); err != nil {
		return Options{}, fmt.Errorf("runtime options: config body: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	return Options{Config: &cfg}, nil
}

// honoured are the fields of runc's options that mean something here, or meant it to
// others: the shim's cgroup is for its start, the address of a task API and a checkpoint
// to restore for containerd, which has put them into its request. Nobody but the shim
// opens a process's pipes, whoever is to own them.
var honoured = []protoreflect.Name{
	"systemd_cgroup", "shim_cgroup", "task_api_address", "task_api_version", "criu_image_path", "criu_work_path", "io_uid", "io_gid",
}

// refused says why a field that is set cannot be honoured.
var refused = map[protoreflect.Name]string{
	"no_pivot_root":  "the sandbox has no root of the host to pivot from",
	"no_new_keyring": "the sandbox's kernel has keyrings of its own",
	"binary_name":    "brig runs the runsc of its configuration, key runsc.path",
	"root":           "brig's state is where its configuration says, key run_dir",
}

func parseRunc(o *options.Options) (Options, error) {
	var wrong []string
	o.ProtoReflect().Range(func(f protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		if !slices.Contains(honoured, f.Name()) {
			reason, ok := refused[f.Name()]
			if !ok {
				reason = "brig does not know it"
			}
			wrong = append(wrong, fmt.Sprintf("%s: %s", f.Name(), reason))
		}
		return true
	})
	if unknown := o.ProtoReflect().GetUnknown(); len(unknown) > 0 {
		wrong = append(wrong, "a field that brig does not know")
	}
	if len(wrong) > 0 {
		slices.Sort(wrong)
		return Options{}, fmt.Errorf("runtime options: leave out %s: %w", strings.Join(wrong, "; "), errdefs.ErrInvalidArgument)
	}
	out, err := withConfig("")
	out.SystemdCgroup = o.GetSystemdCgroup()
	return out, err
}

func withConfig(path string) (Options, error) {
	cfg, err := config.Load(config.Path(path))
	if err != nil {
		return Options{}, fmt.Errorf("%w: %w", err, errdefs.ErrFailedPrecondition)
	}
	return Options{Config: &cfg}, nil
}

// DecodeOptions reads options as they stand on the stdin of a runtime that is asked
// about itself.
func DecodeOptions(encoded []byte) (*anypb.Any, error) {
	any := new(anypb.Any)
	if err := proto.Unmarshal(encoded, any); err != nil {
		return nil, fmt.Errorf("runtime options: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	return any, nil
}
