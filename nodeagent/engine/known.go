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

// knownImages bounds of how many images the engine remembers what it read in them. Beyond
// it any of them is forgotten.
const knownImages = 256

// known is what the content of an image says of every sandbox that is made from it. The
// content cannot change, so neither can this. Its user is looked up in the image's own list
// of users, for which it has to be mounted.
type known struct {
	chain   string         // of its layers: the name of the snapshot below a sandbox's
	process *specs.Process // what a spec's becomes by it; nil: not read yet
}

// chain is the name of the snapshot of an image's layers.
func (e *Engine) chain(ctx context.Context, image containerd.Image) (string, error) {
	target := image.Target().Digest
	if k := e.recall(target); k.chain != "" {
		return k.chain, nil
	}
	layers, err := image.RootFS(ctx)
	if err != nil {
		return "", fmt.Errorf("read the layers of %s: %w", image.Name(), native(err))
	}
	chain := identity.ChainID(layers).String()
	e.learn(target, func(k *known) { k.chain = chain })
	return chain, nil
}

// imageConfig gives the default spec the image's environment, user and directory. It comes
// before every other option, so that what it makes of a spec depends on the image alone.
func (e *Engine) imageConfig(image containerd.Image) oci.SpecOpts {
	return func(ctx context.Context, client oci.Client, c *containers.Container, spec *oci.Spec) error {
		target := image.Target().Digest
		if k := e.recall(target); k.process != nil {
			spec.Process = copied(k.process)
			return nil
		}
		if err := readImageConfig(image)(ctx, client, c, spec); err != nil {
			return err
		}
		e.learn(target, func(k *known) { k.process = copied(spec.Process) })
		return nil
	}
}

func (e *Engine) recall(image digest.Digest) known {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.images[image]
}

func (e *Engine) learn(image digest.Digest, what func(*known)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	k, ok := e.images[image]
	if !ok && len(e.images) >= knownImages {
		for other := range e.images {
			delete(e.images, other)
			break
		}
	}
	what(&k)
	e.images[image] = k
}

// copied is a copy that shares nothing that an option changes in place.
func copied(p *specs.Process) *specs.Process {
	c := *p
	c.Args, c.Env, c.Rlimits = slices.Clone(p.Args), slices.Clone(p.Env), slices.Clone(p.Rlimits)
	c.User.AdditionalGids = slices.Clone(p.User.AdditionalGids)
	if p.Capabilities != nil {
		caps := *p.Capabilities
		c.Capabilities = &caps
	}
	return &c
}
