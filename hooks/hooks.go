// Package hooks makes of a container's OCI spec one that has exactly the NVIDIA GPUs that
// were asked for, under gVisor, or says in one line why there is none.
//
// What callers put into a spec for a GPU is made for runc: device nodes that gVisor's
// nvproxy does not know, sockets that break its gofer, hooks that runsc skips, runs at
// another time, or answers with every GPU of the host. Modify recognises all of them,
// whoever has put them there (ctr, nerdctl, docker, Kubernetes, or this package, for what
// brigd asks for by annotation), and keeps what a list allows; the rest is dropped by
// name, or refused. What is left to do in the container's root is done by Plan.Apply, by
// our own code, so that no hook of NVIDIA's is ever run.
//
// GPUs come from the request alone: device nodes of the spec, or brigd's annotation. The
// environment and the labels, which an image's author writes, ask for nothing; of the
// driver's capabilities the environment may choose among those that the operator allows.
//
// Modify is a function of its input and of the CDI specifications in one folder: the same
// gives the same bytes, since a sandbox is restored only with the spec that it was saved
// with. It changes nothing, and is safe for concurrent use.
package hooks

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"brig/hooks/operation"
	"brig/internal/sandbox"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Host is what Modify needs to know of where it runs. The zero value allows nothing.
type Host struct {
	// Own tells that brigd asks, whose annotations count.
	Own bool
	// CDIDir has the CDI specifications of the GPUs that brigd's annotations name.
	CDIDir string
	// Capabilities of the driver that a container may have.
	Capabilities []string
}

// Plan is what becomes of a spec.
type Plan struct {
	// Spec to run. Without GPUs it is the one that was given, unless there was something
	// of NVIDIA's to take away.
	Spec *specs.Spec
	// Devices are the paths of the GPUs' nodes, sorted; none: no GPU was asked for.
	Devices []string
	// Capabilities of the driver, sorted.
	Capabilities []string
	// Dropped says what was asked for and left out because gVisor has nothing behind it,
	// sorted.
	Dropped []string

	operations []operation.Operation
}

// Modify plans for the GPUs of in, which is not changed. A spec that asks for none passes
// as it is.
func Modify(in *specs.Spec, host Host) (*Plan, error) {
	plan, err := modify(in, host)
	if err != nil {
		return nil, fmt.Errorf("GPUs: %w", err)
	}
	return plan, nil
}

func modify(in *specs.Spec, host Host) (*Plan, error) {
	names, caps, err := asked(in.Annotations, host.Own)
	if err != nil {
		return nil, err
	}
	if len(names) == 0 && !concerned(in) {
		return &Plan{Spec: in}, notInjected(in.Annotations)
	}
	spec, err := clone(in)
	if err != nil {
		return nil, err
	}
	if spec.Process == nil || spec.Linux == nil {
		return nil, fmt.Errorf("a spec without process or linux section: %w", errdefs.ErrInvalidArgument)
	}
	if len(names) > 0 {
		if err := inject(spec, names, host.CDIDir); err != nil {
			return nil, err
		}
	}
	switch mode, err := classify(spec); {
	case err != nil:
		return nil, err
	case mode == modeNone:
		return &Plan{Spec: spec}, errors.Join(notInjected(in.Annotations), strip(spec, new(Plan)))
	}
	plan := &Plan{Spec: spec}
	if plan.Capabilities, err = capabilities(spec.Process.Env, caps, host.Capabilities); err != nil {
		return nil, err
	}
	if err := errors.Join(plan.keepDevices(), strip(spec, plan)); err != nil {
		return nil, err
	}
	plan.keepMounts()
	plan.setEnvironment()
	slices.Sort(plan.Dropped)
	plan.Dropped = slices.Compact(plan.Dropped)
	return plan, nil
}

// concerned tells that there is anything of NVIDIA's in a spec, so that others are not
// even copied.
func concerned(spec *specs.Spec) bool {
	if spec.Linux != nil && slices.ContainsFunc(spec.Linux.Devices, isNVIDIA) {
		return true
	}
	for _, stage := range stages(spec.Hooks) {
		if slices.ContainsFunc(*stage, func(h specs.Hook) bool { return kindOf(h) != foreign }) {
			return true
		}
	}
	return false
}

// drop notes what is left out.
func (p *Plan) drop(format string, args ...any) {
	p.Dropped = append(p.Dropped, fmt.Sprintf(format, args...))
}

// clone is deep: CDI's package edits in place.
func clone(in *specs.Spec) (*specs.Spec, error) {
	data, err := json.Marshal(in)
	if err != nil {
		return nil, fmt.Errorf("copy OCI spec: %w", err)
	}
	out := new(specs.Spec)
	if err := json.Unmarshal(data, out); err != nil {
		return nil, fmt.Errorf("copy OCI spec: %w", err)
	}
	return out, nil
}

// asked reads brigd's annotations. From anybody else they are refused: whoever may create
// containers could take a GPU that was handed to another.
func asked(annotations map[string]string, own bool) (names, caps []string, err error) {
	gpus, hasGPUs := annotations[sandbox.AnnotationGPU]
	wanted, hasCaps := annotations[sandbox.AnnotationGPUCaps]
	switch {
	case !hasGPUs && !hasCaps:
		return nil, nil, nil
	case !own:
		return nil, nil, fmt.Errorf("annotations %s and %s are for brigd alone; ask for a CDI device, --device nvidia.com/gpu=0: %w",
			sandbox.AnnotationGPU, sandbox.AnnotationGPUCaps, errdefs.ErrPermissionDenied)
	case !hasGPUs:
		return nil, nil, fmt.Errorf("annotation %s without %s: %w", sandbox.AnnotationGPUCaps, sandbox.AnnotationGPU, errdefs.ErrInvalidArgument)
	}
	if names, err = deviceNames(gpus); err != nil {
		return nil, nil, fmt.Errorf("annotation %s: %w", sandbox.AnnotationGPU, err)
	}
	if hasCaps {
		if caps = list(wanted); len(caps) == 0 {
			return nil, nil, fmt.Errorf("annotation %s: no capability: %w", sandbox.AnnotationGPUCaps, errdefs.ErrInvalidArgument)
		}
	}
	return names, caps, nil
}
