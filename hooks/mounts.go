package hooks

import (
	"path"
	"regexp"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// sockets of NVIDIA's daemons, and the folder of its multi-process service. runsc's gofer
// does not stand a socket as a mount, and through one a sandbox would talk to a daemon of
// the host's.
var sockets = regexp.MustCompile(`/nvidia-(persistenced|fabricmanager)/socket$|/nvidia-(persistenced|fabricmanager)$|/nvidia-mps(/|$)|^(/var)?/run/nvidia/mps(/|$)`)

// programFolders are where a program of the same name as a daemon's folder may be.
var programFolders = regexp.MustCompile(`/s?bin/nvidia-(persistenced|fabricmanager)$`)

// keepMounts drops sockets, and what is there twice: two GPUs bring the same libraries.
func (p *Plan) keepMounts() {
	var kept []specs.Mount
	for _, m := range p.Spec.Mounts {
		switch {
		case isSocket(m.Source) || isSocket(m.Destination):
			p.drop("mount %s", m.Destination)
		case !slices.ContainsFunc(kept, func(k specs.Mount) bool { return sameMount(k, m) }):
			kept = append(kept, m)
		}
	}
	p.Spec.Mounts = kept
}

func isSocket(file string) bool {
	file = path.Clean(file)
	return sockets.MatchString(file) && !programFolders.MatchString(file)
}

func sameMount(a, b specs.Mount) bool {
	return a.Destination == b.Destination && a.Source == b.Source && a.Type == b.Type && slices.Equal(a.Options, b.Options) &&
		len(a.UIDMappings)+len(b.UIDMappings)+len(a.GIDMappings)+len(b.GIDMappings) == 0
}
