package engine

import (
	"context"
	"fmt"
	"slices"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// maxPrograms bounds what is remembered of images.
const maxPrograms = 64

// imageProgram is what an image says of the programs that are run in it. It follows from the
// image's content, whose digest is its name, so it is looked up once: to read it takes half a
// dozen calls and a mount.
type imageProgram struct {
	parent  string         // of snapshots
	process *specs.Process // never changed; nil: not known yet
}

func (e *Engine) program(of digest.Digest) imageProgram {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.programs[of]
}

func (e *Engine) remember(of digest.Digest, learn func(*imageProgram)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	p := e.programs[of]
	learn(&p)
	for other := range e.programs {
		if len(e.programs) < maxPrograms {
			break
		}
		delete(e.programs, other)
	}
	e.programs[of] = p
}

// parentOf the snapshots of an image.
func (e *Engine) parentOf(ctx context.Context, image containerd.Image) (string, error) {
	if known := e.program(image.Target().Digest); known.parent != "" {
		return known.parent, nil
	}
	layers, err := image.RootFS(ctx)
	if err != nil {
		return "", fmt.Errorf("read the layers of %s: %w", image.Name(), native(err))
	}
	parent := identity.ChainID(layers).String()
	e.remember(image.Target().Digest, func(p *imageProgram) { p.parent = parent })
	return parent, nil
}

// imageConfig gives a spec the image's environment, user and directory. It comes first
// among the options: what it makes is remembered, and must be the image's alone.
func (e *Engine) imageConfig(image containerd.Image) oci.SpecOpts {
	return func(ctx context.Context, client oci.Client, c *containers.Container, spec *oci.Spec) error {
		of := image.Target().Digest
		known := e.program(of).process
		if known == nil {
			if err := imageConfig(image)(ctx, client, c, spec); err != nil {
				return err
			}
			known = copied(spec.Process)
			e.remember(of, func(p *imageProgram) { p.process = known })
		}
		spec.Process = copied(known)
		return nil
	}
}

// copied shares nothing that an option changes.
func copied(p *specs.Process) *specs.Process {
	c := *p
	c.Args, c.Env, c.User.AdditionalGids = slices.Clone(p.Args), slices.Clone(p.Env), slices.Clone(p.User.AdditionalGids)
	c.Rlimits = slices.Clone(p.Rlimits)
	if p.Capabilities != nil {
		caps := *p.Capabilities
		caps.Bounding, caps.Effective, caps.Permitted = slices.Clone(caps.Bounding), slices.Clone(caps.Effective), slices.Clone(caps.Permitted)
		caps.Inheritable, caps.Ambient = slices.Clone(caps.Inheritable), slices.Clone(caps.Ambient)
		c.Capabilities = &caps
	}
	return &c
}
