//go:build !failpoints

package failpoint

// Hit does nothing.
func Hit(string) {}

// Skips is false.
func Skips(string) bool { return false }
