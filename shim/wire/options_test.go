package wire

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"brig/internal/config"

	"github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/containerd/api/types/runtimeoptions/v1"
	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/anypb"
)

func TestParseOptions(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(path, []byte(`node = "file"`), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv(config.EnvPath, path)
	newer := new(options.Options)
	newer.ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 99, protowire.VarintType), 1))
	for _, c := range []struct {
		name string
		opts any
		want string // the node, and whether systemd is insisted on; "error: …": a part of the error
	}{
		{"none", nil, "file"},
		{"a path", &runtimeoptions.Options{ConfigPath: path}, "file"},
		{"an inline body", &runtimeoptions.Options{ConfigBody: []byte(`node = "inline"`)}, "inline"},
		{"a path before a body", &runtimeoptions.Options{ConfigPath: path, ConfigBody: []byte(`node = "inline"`)}, "file"},
		{"brig's type", &runtimeoptions.Options{TypeUrl: "io.containerd.brig.v1.options"}, "file"},
		{"gVisor's type", &runtimeoptions.Options{TypeUrl: "io.containerd.runsc.v1.options", ConfigPath: path}, "error: leave TypeUrl out"},
		{"an unknown key", &runtimeoptions.Options{ConfigBody: []byte(`nodes = "inline"`)}, `error: unknown key "nodes"`},
		{"what is not TOML", &runtimeoptions.Options{ConfigBody: []byte("\x00")}, "error: config body"},
		{"a path to nothing", &runtimeoptions.Options{ConfigPath: path + ".not"}, "error: read configuration"},
		{"runc's, empty", &options.Options{}, "file"},
		{"runc's for systemd", &options.Options{SystemdCgroup: true}, "file systemd"},
		{"runc's for others", &options.Options{ShimCgroup: "/shims"}, "file"},
		{"runc's binary and root", &options.Options{BinaryName: "crun", Root: "/run/crun"}, "error: leave out binary_name: brig runs the runsc of its configuration, key runsc.path; root: "},
		{"runc's pivot", &options.Options{NoPivotRoot: true}, "error: no_pivot_root"},
		{"runc's keyring", &options.Options{NoNewKeyring: true}, "error: no_new_keyring"},
		{"the owner of pipes", &options.Options{IoUid: 1, IoGid: 1}, "file"},
		{"a checkpoint", &options.Options{CriuImagePath: "/i", CriuWorkPath: "/w"}, "file"},
		{"of a newer runc", newer, "error: a field that brig does not know"},
		{"another type", &types.Mount{}, "error: brig takes those of CRI and runc's"},
		{"no type at all", &anypb.Any{TypeUrl: "example.com/nothing"}, "error: runtime options"},
	} {
		encoded, _ := c.opts.(*anypb.Any)
		if c.opts != nil && encoded == nil {
			var err error
			if encoded, err = typeurl.MarshalAnyToProto(c.opts); err != nil {
				t.Fatal(err)
			}
		}
		o, err := ParseOptions(encoded)
		if want, isError := strings.CutPrefix(c.want, "error: "); isError {
			if err == nil || !strings.Contains(err.Error(), want) || !errdefs.IsInvalidArgument(err) && !errdefs.IsFailedPrecondition(err) {
				t.Errorf("%s: %v; want an error with %q", c.name, err, want)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		got := o.Config.Node
		if o.SystemdCgroup {
			got += " systemd"
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// TestEveryFieldOfRuncsOptions is either honoured or refused with a reason.
func TestEveryFieldOfRuncsOptions(t *testing.T) {
	fields := new(options.Options).ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		name := fields.Get(i).Name()
		if refused[name] == "" && !slices.Contains(honoured, name) {
			t.Errorf("%s is neither", name)
		}
	}
}
