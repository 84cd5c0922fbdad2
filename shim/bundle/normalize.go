package bundle

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"brig/internal/sandbox"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Host is what Normalize needs to know of where it runs.
type Host struct {
	Bundle       Bundle
	Sandbox      string // that the container joins, by runsc's name; empty: it makes one
	BlockNetwork bool   // the sandbox will have no network, so it needs no namespace
	// LowestOOMScore is the lowest oom_score_adj that this process may give. runsc
	// fails a start, after the program has begun to run, if it may not set the score.
	LowestOOMScore int
}

// Normalize returns the spec that runsc is given, or an error for what this version
// can neither honour nor leave out. in is not changed; the same input gives the same
// output.
func Normalize(in *specs.Spec, host Host) (*specs.Spec, error) {
	if in.Process == nil || in.Root == nil || in.Root.Path == "" || in.Linux == nil {
		return nil, fmt.Errorf("OCI spec without process, root or linux section: %w", errdefs.ErrInvalidArgument)
	}
	if in.Hooks != nil && len(in.Hooks.StartContainer) > 0 {
		return nil, fmt.Errorf("startContainer hooks: runsc would silently skip them: %w", errdefs.ErrNotImplemented)
	}
	if err := checkLinux(in.Linux, host); err != nil {
		return nil, err
	}
	if of := SandboxOf(in); of != "" && host.Sandbox == "" {
		return nil, fmt.Errorf("a container of sandbox %s, which this shim does not have: %w", of, errdefs.ErrNotFound)
	}
	annotations, err := annotationsForRunsc(in.Annotations)
	if err != nil {
		return nil, err
	}
	if host.Sandbox != "" {
		annotations = joined(annotations, host.Sandbox)
	}
	out, root, process := *in, *in.Root, *in.Process
	out.Annotations, out.Root, out.Process = annotations, &root, &process
	if !filepath.IsAbs(root.Path) {
		root.Path = filepath.Join(string(host.Bundle), root.Path)
	}
	if adj := process.OOMScoreAdj; adj != nil && *adj < host.LowestOOMScore {
		process.OOMScoreAdj = &host.LowestOOMScore
	}
	return &out, nil
}

func checkLinux(l *specs.Linux, host Host) error {
	network := func(ns specs.LinuxNamespace) bool { return ns.Type == specs.NetworkNamespace }
	if !host.BlockNetwork && host.Sandbox == "" && !slices.ContainsFunc(l.Namespaces, network) {
		return fmt.Errorf("the host's network: a sandbox needs a network namespace of its own, or %s: %w",
			sandbox.AnnotationBlockNetwork, errdefs.ErrInvalidArgument)
	}
	if r := l.Resources; r != nil && r.Pids != nil && r.Pids.Limit != nil && *r.Pids.Limit > 0 {
		return fmt.Errorf("a limit of processes: on the host it would count the sandbox kernel's threads: %w",
			errdefs.ErrNotImplemented)
	}
	return nil
}

var brigAnnotations = []string{
	sandbox.AnnotationBlockNetwork, sandbox.AnnotationCIDRAllowlist, sandbox.AnnotationDomainAllowlist,
	sandbox.AnnotationInboundCIDRAllowlist,
}

// Annotations come from whoever may create containers. With those below runsc
// changes its flags, opens files and sockets of the host, or joins a sandbox that
// already runs.
var runscAnnotations = []string{"dev.gvisor.", "io.kubernetes.cri.", "io.kubernetes.cri-o."}

// annotationsForRunsc drops brig's own and runsc's. The rest stay: hooks read them.
func annotationsForRunsc(in map[string]string) (map[string]string, error) {
	out := maps.Clone(in)
	for _, key := range slices.Sorted(maps.Keys(in)) {
		switch {
		case key == sandbox.AnnotationGPU:
			return nil, fmt.Errorf("annotation %s: this version has no GPUs: %w", key, errdefs.ErrNotImplemented)
		case strings.HasPrefix(key, sandbox.AnnotationPrefix) && !slices.Contains(brigAnnotations, key):
			return nil, fmt.Errorf("unknown annotation %s: brig knows %s: %w",
				key, strings.Join(brigAnnotations, ", "), errdefs.ErrInvalidArgument)
		}
		for _, prefix := range append([]string{sandbox.AnnotationPrefix}, runscAnnotations...) {
			if strings.HasPrefix(key, prefix) {
				delete(out, key)
			}
		}
	}
	return out, nil
}
