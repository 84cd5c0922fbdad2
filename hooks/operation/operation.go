// Package operation is what NVIDIA's CDI hooks do to a container's root, done without
// running anything: links to libraries, the cache of the dynamic linker, the choice of
// CUDA's compatibility libraries.
//
// The root is hostile: whoever made the image chose every name and link in it. No path is
// resolved outside of it (openat2, RESOLVE_IN_ROOT), nothing is written beyond its own
// mount, nothing of it is executed or mapped, a file is read only when it is known to be a
// regular one, and what is read is bounded: an image that goes beyond a bound is an error.
// The same root, mounts and operations give the same bytes.
package operation

// Mount is a file or folder of the host that the container will see at Destination, though
// the mount is not made yet. Source is trusted: the operator's CDI specification named it.
// Both are absolute. A folder counts for the libraries directly in it.
type Mount struct{ Source, Destination string }

// Operation is one hook's work.
type Operation interface {
	// Apply does it in root; again, it changes nothing. After an error part of it may be
	// done, all of it inside root.
	Apply(root *Root) error
}
