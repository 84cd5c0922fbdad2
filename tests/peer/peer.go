// Package peer builds gVisor's own shim, to be measured and judged beside brig's, from
// a copy of the module that tools/runsc pins. The copy has one line edited, without
// which the shim does not start on most machines; nothing of it is kept.
package peer

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	runtimeoptions "github.com/containerd/containerd/api/types/runtimeoptions/v1"
)

// Config is what gVisor's shim reads from the file that its options name.
type Config struct {
	Runsc string            // path of the program
	Root  string            // runsc's folder
	Flags map[string]string // runsc's
}

// Write the file.
func (c Config) Write(path string) error {
	var text strings.Builder
	fmt.Fprintf(&text, "binary_name = %q\nroot = %q\n[runsc_config]\n", c.Runsc, c.Root)
	for _, key := range slices.Sorted(maps.Keys(c.Flags)) {
		fmt.Fprintf(&text, "%s = %q\n", key, c.Flags[key])
	}
	return os.WriteFile(path, []byte(text.String()), 0o600)
}

// Options name a file of the shim's in a request to containerd.
func Options(path string) *runtimeoptions.Options {
	return &runtimeoptions.Options{TypeUrl: "io.containerd.runsc.v1.options", ConfigPath: path}
}

// Annotations keep the shim's create from hanging without a terminal: only a CRI
// sandbox gets the streams themselves, and any other one a pipe that nobody closes.
func Annotations() map[string]string {
	return map[string]string{"io.kubernetes.cri.container-type": "sandbox"}
}
