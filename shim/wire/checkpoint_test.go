package wire

import (
	"strings"
	"testing"

	"github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"
	"google.golang.org/protobuf/types/known/anypb"
)

func TestCheckpointOptions(t *testing.T) {
	for _, c := range []struct {
		name  string
		opts  any
		exit  bool
		wants []string // in the error
	}{
		{"none", nil, false, nil},
		{"those of containerd's client", &options.CheckpointOptions{FileLocks: true}, false, nil},
		{"exit, and what changes nothing", &options.CheckpointOptions{Exit: true, Terminal: true, ImagePath: "/i", WorkPath: "/w"}, true, nil},
		{"CRIU's", &options.CheckpointOptions{
			OpenTcp: true, ExternalUnixSockets: true, EmptyNamespaces: []string{"network"}, CgroupsMode: "soft",
		}, false, []string{"open_tcp", "external_unix_sockets", "empty_namespaces", "cgroups_mode"}},
		{"another type", &types.Mount{}, false, []string{"types.Mount"}},
	} {
		var encoded *anypb.Any
		if c.opts != nil {
			var err error
			if encoded, err = typeurl.MarshalAnyToProto(c.opts); err != nil {
				t.Fatal(err)
			}
		}
		exit, err := checkpointOptions(encoded)
		if exit != c.exit || (err == nil) != (c.wants == nil) {
			t.Errorf("%s: %t, %v", c.name, exit, err)
		}
		for _, want := range c.wants {
			if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v; want %q", c.name, err, want)
			}
		}
	}
}
