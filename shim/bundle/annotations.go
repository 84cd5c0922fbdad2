package bundle

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"brig/internal/sandbox"

	"github.com/containerd/errdefs"
)

// Annotations come from whoever may create containers. With these prefixes runsc
// changes its flags, opens files and sockets of the host, replaces the root filesystem,
// or joins a sandbox that already runs.
const (
	runscPrefix   = "dev.gvisor."
	containerType = "io.kubernetes.cri.container-type"
	sandboxID     = "io.kubernetes.cri.sandbox-id"

	typeSandbox   = "sandbox"
	typeContainer = "container"
)

// strippedPrefixes never reach runsc from a caller, but for what an operator allows.
// Of the latter two it reads the type of the container, the sandbox, the names of
// container and pod; the rest of them is none of its business.
var strippedPrefixes = []string{sandbox.AnnotationPrefix, runscPrefix, "io.kubernetes.cri.", "io.kubernetes.cri-o."}

var brigAnnotations = []string{
	sandbox.AnnotationBlockNetwork, sandbox.AnnotationCIDRAllowlist, sandbox.AnnotationDomainAllowlist,
	sandbox.AnnotationInboundCIDRAllowlist, sandbox.AnnotationDNS,
}

// annotationsForRunsc drops brig's own and runsc's, but for those allowed. The rest
// stay: hooks read them. Which sandbox a container joins is for the host alone to say.
func annotationsForRunsc(in map[string]string, host Host) (map[string]string, error) {
	out := maps.Clone(in)
	for _, key := range slices.Sorted(maps.Keys(in)) {
		if err := checkAnnotation(key, in[key], host); err != nil {
			return nil, err
		}
		stripped := func(prefix string) bool { return strings.HasPrefix(key, prefix) }
		if slices.ContainsFunc(strippedPrefixes, stripped) && !slices.Contains(host.AllowedAnnotations, key) {
			delete(out, key)
		}
	}
	if host.Sandbox != "" {
		if out == nil {
			out = make(map[string]string)
		}
		out[containerType], out[sandboxID] = typeContainer, host.Sandbox
	}
	return out, nil
}

func checkAnnotation(key, value string, host Host) error {
	switch {
	case slices.Contains(ownOnly, key):
		if !host.Own {
			return fmt.Errorf("annotation %s is for brigd alone: %w", key, errdefs.ErrPermissionDenied)
		}
	case strings.HasPrefix(key, sandbox.AnnotationPrefix) && !slices.Contains(brigAnnotations, key):
		return fmt.Errorf("unknown annotation %s: brig knows %s: %w",
			key, strings.Join(brigAnnotations, ", "), errdefs.ErrInvalidArgument)
	case host.Sandbox == "" && joinsSandbox(key, value):
		return fmt.Errorf("%s=%s: a container of a sandbox that this shim does not have: %w", key, value, errdefs.ErrNotFound)
	}
	return nil
}

func joinsSandbox(key, value string) bool {
	return (key == containerType || key == "io.kubernetes.cri-o.ContainerType") && value != typeSandbox
}
