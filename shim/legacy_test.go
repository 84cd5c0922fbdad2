package shim

import (
	"debug/buildinfo"
	"runtime/debug"
	"strings"
	"testing"

	bootapi "github.com/containerd/containerd/api/runtime/bootstrap/v1"
	"github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/typeurl/v2"
	"google.golang.org/protobuf/proto"
)

// args are those of every containerd from 1.4 to 2.4.
func args(verb string) []string {
	return strings.Fields("-namespace ns -address /run/containerd/containerd.sock -publish-binary /usr/bin/containerd -id c1 -debug " + verb)
}

func TestFlags(t *testing.T) {
	t.Setenv("TTRPC_ADDRESS", "/run/containerd/containerd.sock.ttrpc")
	f, err := parseFlags(args("start"))
	if err != nil || f.verb != "start" {
		t.Fatalf("%+v, %v", f, err)
	}
	want := &bootapi.BootstrapParams{
		InstanceID: "c1", Namespace: "ns", LogLevel: bootapi.LogLevel_LOG_LEVEL_DEBUG,
		ContainerdGrpcAddress: "/run/containerd/containerd.sock", ContainerdTtrpcAddress: "/run/containerd/containerd.sock.ttrpc",
		ContainerdBinary: "/usr/bin/containerd",
	}
	if got := f.params(); !proto.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	f, err = parseFlags(append([]string{"-bundle", "/run/b"}, args("delete")...))
	if err != nil || f.verb != "delete" || f.bundle != "/run/b" || f.id != "c1" {
		t.Errorf("%+v, %v", f, err)
	}
	if f, err := parseFlags(serverArgs("ns", "c1", "/run/c.sock")); err != nil || f.verb != "" || f.namespace != "ns" || f.address != "/run/c.sock" || f.debug {
		t.Errorf("%+v, %v", f, err)
	}
	if _, err := parseFlags([]string{"-nonsense", "start"}); err == nil {
		t.Error("nonsense is taken for a flag")
	}
}

func TestWhoCalls(t *testing.T) {
	f, err := parseFlags(args("start"))
	if err != nil {
		t.Fatal(err)
	}
	opts, err := typeurl.MarshalAnyToProto(&options.Options{SystemdCgroup: true, ShimCgroup: "/shims"})
	if err != nil {
		t.Fatal(err)
	}
	marshal := func(m proto.Message) []byte {
		b, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	mine := &bootapi.BootstrapParams{InstanceID: "c1", Namespace: "ns"}
	other := &bootapi.BootstrapParams{InstanceID: "c2", Namespace: "ns"}
	for _, c := range []struct {
		name  string
		input []byte
		new   bool
	}{
		{"nothing", nil, false},
		{"options", marshal(opts), false},
		{"bootstrap parameters", marshal(mine), true},
		{"those of another", marshal(other), false},
		{"rubbish", []byte("\xff\xff\xff"), false},
	} {
		if got := bootstrap(c.input, f) != nil; got != c.new {
			t.Errorf("%s: %v, want %v", c.name, got, c.new)
		}
	}

	flags := f.params()
	if err := addOptions(flags, marshal(opts)); err != nil {
		t.Fatal(err)
	}
	var found options.Options
	if ok, err := flags.FindExtension(&found); !ok || err != nil || found.GetShimCgroup() != "/shims" {
		t.Errorf("options arrive as %v, %v, %v", &found, ok, err)
	}
	if err := addOptions(flags, []byte("\xff\xff\xff")); err == nil {
		t.Error("rubbish is taken for options")
	}
}

func TestAnswers(t *testing.T) {
	for version, want := range map[int32]string{
		2: "unix:///run/s/1",
		3: `{"version":3,"address":"unix:///run/s/1","protocol":"ttrpc"}`,
	} {
		got := legacyAnswer(&bootapi.BootstrapResult{Version: version, Protocol: "ttrpc", Address: "unix:///run/s/1"})
		if string(got) != want {
			t.Errorf("version %d: %s, want %s", version, got, want)
		}
	}
	if v := taskVersion(&bootapi.BootstrapParams{ContainerdVersion: containerd1}); v != 2 {
		t.Errorf("containerd 1 is told version %d", v)
	}
	for _, newer := range []string{containerd2, "2.4.2", "v2.5.0-rc.1", "deadbeef"} {
		if v := taskVersion(&bootapi.BootstrapParams{ContainerdVersion: newer}); v != newestTask {
			t.Errorf("containerd %s is told version %d", newer, v)
		}
	}
}

func TestMajorVersion(t *testing.T) {
	dep := func(path string) []*debug.Module { return []*debug.Module{{Path: "golang.org/x/sys"}, {Path: path}} }
	for want, infos := range map[string][]*buildinfo.BuildInfo{
		containerd1: {
			{Path: "github.com/containerd/containerd/cmd/containerd"},
			{Path: "github.com/k3s-io/k3s/cmd/server", Deps: dep("github.com/containerd/containerd")},
			{Path: "command-line-arguments"},
		},
		containerd2: {
			{Path: "github.com/containerd/containerd/v2/cmd/containerd"},
			{Path: "github.com/k3s-io/k3s/cmd/server", Deps: dep("github.com/containerd/containerd/v2")},
		},
	} {
		for _, info := range infos {
			if got := majorVersion(info); got != want {
				t.Errorf("%s: %s, want %s", info.Path, got, want)
			}
		}
	}
	if got := parentVersion(); got != containerd1 {
		t.Errorf("the go command is taken for containerd %s", got)
	}
}
