package shim

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	bootapi "github.com/containerd/containerd/api/runtime/bootstrap/v1"
	"github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/containerd/api/types/runtimeoptions/v1"
	"google.golang.org/protobuf/proto"
)

func TestConfigured(t *testing.T) {
	t.Chdir(t.TempDir())
	bundle, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	sent := filepath.Join(bundle, "brig.toml")
	for _, c := range []struct {
		options proto.Message
		want    []string
	}{
		{nil, nil},
		{&options.Options{SystemdCgroup: true}, nil},
		{&runtimeoptions.Options{}, nil},
		{&runtimeoptions.Options{ConfigPath: "/etc/other.toml"}, []string{"BRIG_CONFIG=/etc/other.toml"}},
		{&runtimeoptions.Options{ConfigBody: []byte("node = \"n\"\n")}, []string{"BRIG_CONFIG=" + sent}},
	} {
		p := new(bootapi.BootstrapParams)
		if c.options != nil {
			if err := p.AddExtension(c.options); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := configured(p); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%v: %v, %v, want %v", c.options, got, err, c.want)
		}
	}
	if b, err := os.ReadFile(sent); err != nil || string(b) != "node = \"n\"\n" {
		t.Errorf("kept %q, %v", b, err)
	}
}
