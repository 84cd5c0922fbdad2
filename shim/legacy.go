package shim

import (
	"context"
	"debug/buildinfo"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	bootapi "github.com/containerd/containerd/api/runtime/bootstrap/v1"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// Since 2.3, containerd tells a shim that is to start all in one message on stdin,
// and containerd's package takes nothing else. Older ones, which most nodes run, use
// flags, the environment and, on stdin, the runtime's options if there are any. Of
// all that a shim is run for only this verb differs.

// startLegacy answers the verb start if the caller is such a containerd. Otherwise it
// leaves all, stdin too, as it was.
func startLegacy(ctx context.Context, m manager) (done bool, err error) {
	p, ok := legacyFlags(os.Args[1:])
	if !ok {
		return false, nil
	}
	input, err := io.ReadAll(io.LimitReader(os.Stdin, maxInput))
	if err != nil {
		return false, fmt.Errorf("read stdin: %w", err)
	}
	if isBootstrap(input, p) {
		os.Stdin, err = rewound(input)
		return false, err
	}
	if err := addOptions(p, input); err != nil {
		return true, err
	}
	p.ContainerdVersion = parentVersion()
	result, err := m.Start(namespaces.WithNamespace(ctx, p.GetNamespace()), p)
	if err != nil {
		return true, err
	}
	_, err = os.Stdout.Write(legacyAnswer(result))
	return true, err
}

// legacyFlags gives what the flags tell, if they are those of the verb start.
func legacyFlags(args []string) (*bootapi.BootstrapParams, bool) {
	p := &bootapi.BootstrapParams{
		LogLevel:               bootapi.LogLevel_LOG_LEVEL_INFO,
		ContainerdTtrpcAddress: os.Getenv("TTRPC_ADDRESS"),
	}
	f := flag.NewFlagSet("", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.StringVar(&p.Namespace, "namespace", "", "")
	f.StringVar(&p.InstanceID, "id", "", "")
	f.StringVar(&p.ContainerdGrpcAddress, "address", "", "")
	f.StringVar(&p.ContainerdBinary, "publish-binary", "", "")
	f.String("bundle", "", "") // the verb delete's
	debug := f.Bool("debug", false, "")
	if err := f.Parse(args); err != nil || f.Arg(0) != "start" {
		return nil, false
	}
	if *debug {
		p.LogLevel = bootapi.LogLevel_LOG_LEVEL_DEBUG
	}
	return p, true
}

// isBootstrap tells the message of a newer containerd from options: those could be
// read as one, too, but not with the id and namespace of the flags.
func isBootstrap(input []byte, flags *bootapi.BootstrapParams) bool {
	p := new(bootapi.BootstrapParams)
	return len(input) > 0 && proto.Unmarshal(input, p) == nil &&
		p.GetInstanceID() == flags.GetInstanceID() && p.GetNamespace() == flags.GetNamespace()
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

// rewound is a file that reads as b.
func rewound(b []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate("stdin", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("keep stdin: %w", err)
	}
	f := os.NewFile(uintptr(fd), "stdin")
	if _, err := f.Write(b); err != nil {
		return nil, fmt.Errorf("keep stdin: %w", err)
	}
	_, err = f.Seek(0, io.SeekStart)
	return f, err
}
