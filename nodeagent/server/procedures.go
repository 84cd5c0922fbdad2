package server

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	brigv1 "brig/nodeagent/api/brig/v1"
)

var (
	// protocol holds the calls of brig.v1, as they are named in a URL.
	protocol = map[string]bool{}
	// uploads are those whose caller sends a stream of messages; answersOnce those that
	// are answered by one.
	uploads, answersOnce = map[string]bool{}, map[string]bool{}
	// services are the protocol's.
	services []string
)

func init() {
	ours := brigv1.File_brig_v1_sandboxes_proto.Package()
	protoregistry.GlobalFiles.RangeFilesByPackage(ours, func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			service := f.Services().Get(i)
			services = append(services, string(service.FullName()))
			for j := range service.Methods().Len() {
				m := service.Methods().Get(j)
				name := fmt.Sprintf("/%s/%s", service.FullName(), m.Name())
				protocol[name] = true
				uploads[name] = m.IsStreamingClient()
				answersOnce[name] = !m.IsStreamingServer()
			}
		}
		return true
	})
	slices.Sort(services)
}
