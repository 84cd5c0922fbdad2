// Package operation is what NVIDIA's CDI hooks do to a container's root, done without
// running anything: links to libraries, the cache of the dynamic linker, the choice of
// CUDA's compatibility libraries.
//
// The root is hostile: whoever made the image chose every name and link in it. No path is
// resolved outside of it (openat2, RESOLVE_IN_ROOT), nothing of it is executed or mapped,
// and what is read of it is bounded. The same root, mounts and operations give the same
// bytes.
package operation

// Mount is a file or folder of the host that the container will see at Destination, though
// the mount is not made yet.
type Mount struct{ Source, Destination string }

// Operation is one hook's work.
type Operation interface {
	// Apply does it in root; again, it changes nothing.
	Apply(root *Root) error
}

// Root of a container, on the host, and what will be mounted in it.
type Root struct{}
