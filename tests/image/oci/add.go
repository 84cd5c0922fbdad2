package oci

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"path"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Add returns img with a program in /usr/bin, and with more environment.
func Add(img v1.Image, name string, program []byte, env ...string) (v1.Image, error) {
	var archive bytes.Buffer
	out := tar.NewWriter(&archive)
	header := tar.Header{Typeflag: tar.TypeReg, Name: path.Join("usr/bin", name), Mode: 0o755, Size: int64(len(program))}
	if err := out.WriteHeader(&header); err != nil {
		return nil, fmt.Errorf("add %s: %w", name, err)
	}
	if _, err := out.Write(program); err != nil {
		return nil, fmt.Errorf("add %s: %w", name, err)
	}
	if err := out.Close(); err != nil {
		return nil, fmt.Errorf("add %s: %w", name, err)
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(archive.Bytes())), nil }
	layer, err := tarball.LayerFromOpener(open, tarball.WithMediaType(types.OCILayer), tarball.WithCompressionLevel(1))
	if err != nil {
		return nil, fmt.Errorf("add %s: %w", name, err)
	}
	if img, err = mutate.AppendLayers(img, layer); err != nil {
		return nil, fmt.Errorf("add %s: %w", name, err)
	}
	file, err := img.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("add %s: %w", name, err)
	}
	config := file.DeepCopy().Config
	config.Env = append(config.Env, env...)
	return mutate.Config(img, config)
}
