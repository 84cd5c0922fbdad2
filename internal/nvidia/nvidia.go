// Package nvidia says what of NVIDIA's the node has, and whether gVisor can use it: the
// version of the host's driver, the versions that nvproxy knows, and what is wrong with CDI
// specifications. It reads; it changes nothing.
package nvidia

// Node is what a check looks at.
type Node struct {
	// DriverRoot is where the driver is installed.
	DriverRoot string
	// Proc is the host's /proc, where the kernel module tells its version.
	Proc string
	// Runsc is the path of the binary, which is asked for the versions that it knows.
	Runsc string
	// SpecDirs hold CDI specifications.
	SpecDirs []string
}
