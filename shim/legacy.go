package shim

import (
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"

	bootapi "github.com/containerd/containerd/api/runtime/bootstrap/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// Since 2.3, containerd tells a shim that is to start all in one message on stdin. Older
// ones, which most nodes run, use flags, the environment and, on stdin, the runtime's
// options if there are any. Of all that a shim is run for only this verb differs.

// params is what flags and environment tell of a start.
func (f flags) params() *bootapi.BootstrapParams {
	level := bootapi.LogLevel_LOG_LEVEL_INFO
	if f.debug {
		level = bootapi.LogLevel_LOG_LEVEL_DEBUG
	}
	return &bootapi.BootstrapParams{
		InstanceID: f.id, Namespace: f.namespace, LogLevel: level,
		ContainerdGrpcAddress: f.address, ContainerdTtrpcAddress: os.Getenv("TTRPC_ADDRESS"),
		ContainerdBinary: f.binary,
	}
}

func addOptions(p *bootapi.BootstrapParams, input []byte) error {
	if len(input) == 0 {
		return nil
	}
	options := new(anypb.Any)
	if err := proto.Unmarshal(input, options); err != nil {
		return fmt.Errorf("stdin is neither bootstrap parameters nor runtime options: %w", err)
	}
	return p.AddExtension(options)
}

// legacyAnswer is understood by every containerd that has runtime v2: those that
// know of no version but 2 may know of no form but the bare address.
func legacyAnswer(r *bootapi.BootstrapResult) []byte {
	if r.GetVersion() == 2 {
		return []byte(r.GetAddress())
	}
	answer, _ := json.Marshal(struct { // of this nothing fails
		Version  int32  `json:"version"`
		Address  string `json:"address"`
		Protocol string `json:"protocol"`
	}{r.GetVersion(), r.GetAddress(), r.GetProtocol()})
	return answer
}

// The versions that parentVersion tells apart.
const (
	containerd1 = "1"
	containerd2 = "2"
)

// parentVersion is the major version of the containerd that runs this process. All
// that do not tell theirs say the same; but what a program was built of can be read
// from it. In doubt it is the older one, whose protocol both speak.
func parentVersion() string {
	info, err := buildinfo.ReadFile(fmt.Sprintf("/proc/%d/exe", os.Getppid()))
	if err != nil {
		return containerd1
	}
	return majorVersion(info)
}

// majorVersion also knows a program that has containerd built in.
func majorVersion(info *buildinfo.BuildInfo) string {
	paths := []string{info.Path}
	for _, dep := range info.Deps {
		paths = append(paths, dep.Path)
	}
	if slices.ContainsFunc(paths, func(path string) bool {
		return strings.HasPrefix(path+"/", "github.com/containerd/containerd/v2/")
	}) {
		return containerd2
	}
	return containerd1
}

// taskVersion is the version of the Task API to use with a caller.
func taskVersion(p *bootapi.BootstrapParams) int32 {
	if p.GetContainerdVersion() == containerd1 {
		return 2
	}
	return newestTask
}
