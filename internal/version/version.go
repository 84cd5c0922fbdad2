// Package version tells which brig this is. The Makefile sets it at link time.
package version

import "strings"

// Version is a release such as 0.1.0, or a release and a commit.
var Version = "unreleased"

// Revision is the commit, if Version has one.
func Revision() string {
	_, commit, _ := strings.Cut(Version, "+")
	return commit
}
