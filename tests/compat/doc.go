// Package compat runs the shim under each containerd that brig promises to work with,
// built from its own module (tools/containerd and tools/containerd-*), and drives it
// with the ctr of the same version. What a shim is asked for in a pod or by a client
// of the API is tried elsewhere; here it is only how a version starts, finds again,
// and cleans up after a shim. `make compat` builds and runs it.
package compat
