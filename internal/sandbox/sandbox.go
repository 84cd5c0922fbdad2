// Package sandbox holds the words that every part of brig uses for a sandbox:
// its id, its name, its states, why it ended, and the annotations that carry a
// caller's wishes to the shim. Values only: no I/O, standard library only.
package sandbox

import (
	"crypto/rand"
	"encoding/base32"
	"fmt"
	"regexp"
	"strings"
	"sync"
)

// Runtime is the name by which containerd finds the shim.
const Runtime = "io.containerd.brig.v1"

// Annotations on a container's OCI spec that brig reads. Everything that begins
// with AnnotationPrefix and is not listed here is refused by the shim.
const (
	AnnotationPrefix               = "brig/"
	AnnotationBlockNetwork         = "brig/block-network"          // "true" or "false"
	AnnotationCIDRAllowlist        = "brig/cidr-allowlist"         // comma-separated CIDRs; "" is the empty list
	AnnotationDomainAllowlist      = "brig/domain-allowlist"       // comma-separated names
	AnnotationInboundCIDRAllowlist = "brig/inbound-cidr-allowlist" // comma-separated CIDRs
	AnnotationDNS                  = "brig/dns"                    // off or resolver

	// In brigd's own containerd namespace alone.
	AnnotationGPU     = "brig/gpu"      // full CDI names, comma-separated: nvidia.com/gpu=GPU-…
	AnnotationGPUCaps = "brig/gpu-caps" // capabilities of the driver, comma-separated
	AnnotationPIDs    = "brig/pids"     // processes and threads of each user in the sandbox
	AnnotationDiskMiB = "brig/disk-mib" // of the writable layer
	AnnotationSecrets = "brig/secrets"  // "true": brigd has left some (internal/secrets)
	AnnotationSlot    = "brig/slot"     // "true": no program yet, or held before it goes on (internal/slot)
	AnnotationTrace   = "brig/trace"    // "true": the shim tells what it did (internal/phases)
)

// ID names a sandbox for ever: "sb-" and 16 of [a-z2-7], 80 random bits. It is
// also the containerd container id, and every name on the node derives from it.
type ID string

// Patterns are compiled by the first who asks: every start of every program loads this
// package, and few ask.
var idPattern = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^sb-[a-z2-7]{16}$`) })

// NewID returns a fresh, unpredictable id.
func NewID() ID {
	var b [10]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the program instead
	return ID("sb-" + strings.ToLower(base32.StdEncoding.EncodeToString(b[:])))
}

// ParseID accepts exactly what NewID makes.
func ParseID(s string) (ID, error) {
	if !idPattern().MatchString(s) {
		return "", fmt.Errorf("invalid sandbox id %q: want sb- and 16 of [a-z2-7]", s)
	}
	return ID(s), nil
}

var namePattern = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`) })

// CheckName accepts a user's name for a sandbox: 1 to 64 of [A-Za-z0-9_.-], not
// beginning with a dash, and not of the form of an ID.
func CheckName(s string) error {
	switch {
	case !namePattern().MatchString(s):
		return fmt.Errorf("invalid name %q: use at most 64 of [A-Za-z0-9_.-]", s)
	case s[0] == '-':
		return fmt.Errorf("invalid name %q: it must not begin with a dash", s)
	case idPattern().MatchString(s):
		return fmt.Errorf("invalid name %q: it looks like a sandbox id", s)
	}
	return nil
}
