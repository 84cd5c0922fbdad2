// Package version tells which brig this is. The Makefile sets it at link time.
package version

// Version is a release such as 0.1.0, or a release and a commit.
var Version = "unreleased"
