package shim

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"

	"brig/internal/config"
	"brig/internal/sandbox"
	"brig/internal/version"
	"brig/shim/bundle"
	"brig/shim/rootfs"
	"brig/shim/wire"

	"github.com/containerd/containerd/api/types"
	"github.com/containerd/typeurl/v2"
	"github.com/opencontainers/runtime-spec/specs-go/features"
)

// maxInput bounds what a caller may write to stdin.
const maxInput = 10 << 20

// Info tells what the runtime can do, by the options on stdin if there are any.
func (manager) Info(ctx context.Context, stdin io.Reader) (*types.RuntimeInfo, error) {
	input, err := io.ReadAll(io.LimitReader(stdin, maxInput))
	if err != nil {
		return nil, fmt.Errorf("read stdin: %w", err)
	}
	info := &types.RuntimeInfo{
		Name:    sandbox.Runtime,
		Version: &types.RuntimeVersion{Version: version.Version, Revision: version.Revision()},
	}
	options, err := wire.DecodeOptions(input)
	if err != nil {
		return nil, err
	}
	if len(input) > 0 {
		info.Options = options
	}
	parsed, err := wire.ParseOptions(options)
	if err != nil {
		return nil, err
	}
	can, err := runscFeatures(ctx, parsed.Config)
	if err != nil {
		return nil, err
	}
	info.Annotations = map[string]string{
		annotationRunsc:  can.Annotations[annotationRunsc],
		annotationMounts: strings.Join(rootfs.Capabilities().Types, ","),
	}
	info.Features, err = typeurl.MarshalAnyToProto(can)
	return info, err
}

const (
	// annotationRunsc is the version of the gVisor that sandboxes are made with.
	annotationRunsc = "brig/runsc-version"
	// annotationMounts is how containerd 2.2 asks which mounts are left to the shim.
	annotationMounts = "containerd.io/runtime-allow-mounts"
)

func runscFeatures(ctx context.Context, cfg *config.Config) (*features.Features, error) {
	var can features.Features
	out, err := output(ctx, cfg.Runsc.Path, "features")
	if err == nil {
		err = json.Unmarshal(out, &can)
	}
	if err != nil {
		return nil, fmt.Errorf("features of %s: %w", cfg.Runsc.Path, err)
	}
	if out, err = output(ctx, cfg.Runsc.Path, "--version"); err != nil {
		return nil, fmt.Errorf("version of %s: %w", cfg.Runsc.Path, err)
	}
	first, _, _ := bytes.Cut(out, []byte("\n"))
	overRunsc(&can, string(bytes.TrimPrefix(first, []byte("runsc version "))), cfg.Runsc.AllowedAnnotations)
	return &can, nil
}

// overRunsc turns what runsc says of itself into what holds of it under brig: which
// mount options pass, which hooks are refused, that cgroups of all kinds are the host's
// affair, and that the operator's annotations alone reach runsc.
func overRunsc(can *features.Features, version string, annotations []string) {
	can.MountOptions = bundle.MountOptions()
	can.Hooks = slices.DeleteFunc(can.Hooks, func(hook string) bool { return hook == "startContainer" })
	can.Annotations = map[string]string{annotationRunsc: version}
	can.PotentiallyUnsafeConfigAnnotations = annotations
	if can.Linux == nil {
		can.Linux = new(features.Linux)
	}
	yes := true
	can.Linux.Cgroup = &features.Cgroup{V1: &yes, V2: &yes, Systemd: &yes}
}

func output(ctx context.Context, program string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	return out, nil
}
