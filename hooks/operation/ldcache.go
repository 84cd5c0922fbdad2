package operation

import "github.com/containerd/errdefs"

// ldcache is the cache of the dynamic linker, with these folders.
type ldcache struct{ folders []string }

func newLDCache(f flags) (Operation, error) { return ldcache{f["folder"]}, nil }

// Apply writes /etc/ld.so.cache.
func (c ldcache) Apply(r *Root) error { return errdefs.ErrNotImplemented }
