package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
)

// GPU says what sandboxes may have of the node's NVIDIA GPUs.
type GPU struct {
	// Generator is the program that asks the driver which GPUs there are and writes their
	// CDI specification; empty, or not there: brigd hands out none.
	Generator string `toml:"generator"`
	// DriverRoot is where NVIDIA's driver is installed: / or the root of a driver
	// container.
	DriverRoot string `toml:"driver_root"`
	// SpecDirs hold CDI specifications of others, the later ones first in rank, that callers
	// of the shim may name GPUs of.
	SpecDirs []string `toml:"spec_dirs"`
	// Publish is where brigd's own specification is written for other callers too, unless a
	// file of somebody else's there names the same GPUs; empty: nowhere.
	Publish string `toml:"publish"`
	// Shared lets several sandboxes have one GPU at once.
	Shared bool `toml:"shared"`
	// Capabilities of the driver that a sandbox may ask for.
	Capabilities []string `toml:"capabilities"`
	// Sandboxes says which are made for GPUs from their boot: asked, those that ask for one
	// (a container that joins another sandbox can bring none), or all, for the handler of
	// Kubernetes' GPU pods, of whose containers nothing is known when their sandbox boots.
	Sandboxes string `toml:"sandboxes"`
}

// GPUCapabilities are those of NVIDIA's that gVisor can give.
var GPUCapabilities = []string{"compute", "graphics", "utility", "video"}

func (g GPU) validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	absolute := func(key, path string) {
		if !filepath.IsAbs(path) || filepath.Clean(path) != path {
			bad("%s %q: want a clean absolute path", key, path)
		}
	}
	if g.Generator != "" {
		absolute("gpu.generator", g.Generator)
	}
	absolute("gpu.driver_root", g.DriverRoot)
	for _, dir := range g.SpecDirs {
		absolute("gpu.spec_dirs", dir)
	}
	if g.Publish != "" {
		absolute("gpu.publish", g.Publish)
	}
	for _, c := range g.Capabilities {
		if !slices.Contains(GPUCapabilities, c) {
			bad("gpu.capabilities %q: want some of %v", c, GPUCapabilities)
		}
	}
	if len(g.Capabilities) == 0 {
		bad("gpu.capabilities: name at least one of %v", GPUCapabilities)
	}
	if g.Sandboxes != "asked" && g.Sandboxes != "all" {
		bad("gpu.sandboxes %q: want asked or all", g.Sandboxes)
	}
	return errors.Join(errs...)
}
