// Package oci makes the images that tests run: busybox, and busybox with
// Debian's Python or its C library. An image is a function of its Recipe and of the packages that
// the machine's apt offers; the same inputs give the same bytes. What was made
// is kept under the repository's .cache until `make clean`, so that one test run
// makes each image once; a file lock lets concurrent test binaries share it.
//
// It is for tests: nothing in brig itself makes images.
package oci

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// DefaultBusybox is where Debian's busybox-static puts its binary.
const DefaultBusybox = "/bin/busybox"

// recipeVersion is raised when the same recipe shall give another image.
const recipeVersion = "1"

// Recipe says what is in an image.
type Recipe struct {
	// Busybox is a static binary; empty means DefaultBusybox.
	Busybox string
	// Python adds /usr/bin/python3 and its standard library.
	Python bool
	// C adds Debian's C library, for programs that load libraries of others, as CUDA's do.
	C bool
}

// Ref is the name that the image has unless its user gives it another.
func (r Recipe) Ref() string {
	if r.Python {
		return "brig.test/python:3"
	}
	if r.C {
		return "brig.test/c:1"
	}
	return "brig.test/busybox:1"
}

// Image builds the image, or takes its layers from the cache.
func (r Recipe) Image(ctx context.Context) (v1.Image, error) {
	cache, err := openCache()
	if err != nil {
		return nil, err
	}
	defer cache.close()
	base, err := r.base(ctx, cache)
	if err != nil {
		return nil, fmt.Errorf("busybox layer: %w", err)
	}
	layers := []string{base}
	if r.Python {
		layer, err := cache.file("python-"+recipeVersion+".tar", func(path string) error {
			return writeDebianLayer(ctx, cache, path, "usr/bin/python3", "python3-minimal", "libpython3-stdlib")
		})
		if err != nil {
			return nil, fmt.Errorf("python layer: %w", err)
		}
		layers = append(layers, layer)
	}
	if r.C {
		layer, err := cache.file("c-"+recipeVersion+".tar", func(path string) error {
			return writeDebianLayer(ctx, cache, path, "lib64/ld-linux-x86-64.so.2", "libc6", "libgcc-s1", "libstdc++6")
		})
		if err != nil {
			return nil, fmt.Errorf("layer of the C library: %w", err)
		}
		layers = append(layers, layer)
	}
	return assemble(layers)
}

func (r Recipe) base(ctx context.Context, cache *cache) (string, error) {
	path := r.Busybox
	if path == "" {
		path = DefaultBusybox
	}
	binary, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("install busybox-static: %w", err)
	}
	name := fmt.Sprintf("busybox-%s-%x.tar", recipeVersion, sha256.Sum256(binary))
	return cache.file(name, func(out string) error { return writeBusyboxLayer(ctx, out, path, binary) })
}

func assemble(layers []string) (v1.Image, error) {
	img := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	img = mutate.ConfigMediaType(img, types.OCIConfigJSON)
	for _, path := range layers {
		layer, err := tarball.LayerFromFile(path, tarball.WithMediaType(types.OCILayer), tarball.WithCompressionLevel(1))
		if err != nil {
			return nil, fmt.Errorf("layer %s: %w", filepath.Base(path), err)
		}
		if img, err = mutate.AppendLayers(img, layer); err != nil {
			return nil, fmt.Errorf("append layer %s: %w", filepath.Base(path), err)
		}
	}
	file, err := img.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("image configuration: %w", err)
	}
	file = file.DeepCopy()
	file.Architecture, file.OS, file.Created = "amd64", "linux", v1.Time{Time: time.Unix(0, 0).UTC()}
	file.Config = v1.Config{
		Env:        []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"},
		Cmd:        []string{"/bin/sh"},
		WorkingDir: "/",
	}
	return mutate.ConfigFile(img, file)
}
