package bundle

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"brig/internal/sandbox"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// ownOnly are the annotations that count in brigd's own containerd namespace. Elsewhere
// they are refused: whoever may create containers there need not be root.
var ownOnly = []string{
	sandbox.AnnotationPIDs, sandbox.AnnotationDiskMiB, sandbox.AnnotationSecrets, sandbox.AnnotationTrace, sandbox.AnnotationSlot,
	sandbox.AnnotationGPU, sandbox.AnnotationGPUCaps,
}

// Own is what brigd alone may ask for. The zero value is what everybody has.
type Own struct {
	// PIDs bounds the processes and threads of each user in the sandbox; 0: no.
	PIDs uint64
	// DiskMiB bounds what is written to the root; 0: no.
	DiskMiB uint64
	// Secrets are there to be read, and added to the environment.
	Secrets bool
}

// OwnOf reads a spec's.
func OwnOf(spec *specs.Spec) (own Own, err error) {
	for _, n := range []struct {
		key string
		to  *uint64
	}{
		{sandbox.AnnotationPIDs, &own.PIDs}, {sandbox.AnnotationDiskMiB, &own.DiskMiB},
	} {
		text, set := spec.Annotations[n.key]
		if !set {
			continue
		}
		// ParseUint takes digits alone: what follows goes into an argument of runsc's.
		if *n.to, err = strconv.ParseUint(text, 10, 40); err != nil || *n.to == 0 {
			return Own{}, fmt.Errorf("annotation %s=%q: want a positive number: %w", n.key, text, errdefs.ErrInvalidArgument)
		}
	}
	if text, set := spec.Annotations[sandbox.AnnotationSecrets]; set {
		if text != "true" {
			return Own{}, fmt.Errorf("annotation %s=%q: want true: %w", sandbox.AnnotationSecrets, text, errdefs.ErrInvalidArgument)
		}
		own.Secrets = true
	}
	return own, nil
}

// WithSecrets returns env with secrets in place of what has their names.
func WithSecrets(env, secrets []string) []string {
	if len(secrets) == 0 {
		return env
	}
	out := make([]string, 0, len(env)+len(secrets))
	for _, e := range env {
		name, _, _ := strings.Cut(e, "=")
		if !slices.ContainsFunc(secrets, func(s string) bool { return strings.HasPrefix(s, name+"=") }) {
			out = append(out, e)
		}
	}
	return append(out, secrets...)
}

// processes is the one limit of theirs that runsc's kernel keeps: of each user in the
// sandbox, root too, which lacks the capability to raise it.
const processes = "RLIMIT_NPROC"

// WithProcesses returns limits with that of processes and threads.
func WithProcesses(limits []specs.POSIXRlimit, n uint64) []specs.POSIXRlimit {
	if n == 0 {
		return limits
	}
	others := slices.DeleteFunc(slices.Clone(limits), func(l specs.POSIXRlimit) bool { return l.Type == processes })
	return append(others, specs.POSIXRlimit{Type: processes, Soft: n, Hard: n})
}
