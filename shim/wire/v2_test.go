package wire

import (
	"strings"
	"testing"

	v2 "github.com/containerd/containerd/api/runtime/task/v2"
	v3 "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"
)

func TestVersion2IsVersion3(t *testing.T) {
	two := protodesc.ToFileDescriptorProto(v2.File_runtime_task_v2_shim_proto)
	three := protodesc.ToFileDescriptorProto(v3.File_runtime_task_v3_shim_proto)
	text := func(f *descriptorpb.FileDescriptorProto) string {
		return strings.ReplaceAll(prototext.Format(&descriptorpb.FileDescriptorProto{MessageType: f.MessageType}), f.GetPackage(), "package")
	}
	if diff := cmp.Diff(text(two), text(three)); diff != "" {
		t.Errorf("-2 +3:\n%s", diff)
	}
	var methods []string
	for _, m := range two.Service[0].Method {
		methods = append(methods, m.GetName())
		if (Tasks{}).methods()[m.GetName()] == nil {
			t.Errorf("%s is not served", m.GetName())
		}
	}
	if len(methods) != len((Tasks{}).methods()) {
		t.Errorf("served are more than %v", methods)
	}
	if want := two.GetPackage() + "." + two.Service[0].GetName(); version2 != want {
		t.Errorf("served as %s, want %s", version2, want)
	}
}
