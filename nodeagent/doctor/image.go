package doctor

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// probePath is where the image has its one program.
const probePath = "/brig-probe"

// archive is an OCI image with one file in it, the probe, under the name ref.
func archive(probe []byte, ref string) ([]byte, error) {
	layer, err := tarOf(file{probePath[1:], probe, 0o755})
	if err != nil {
		return nil, err
	}
	config, err := json.Marshal(ocispec.Image{
		Platform: ocispec.Platform{Architecture: "amd64", OS: "linux"},
		RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromBytes(layer)}},
	})
	if err != nil {
		return nil, err
	}
	manifest, err := json.Marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: descriptor(ocispec.MediaTypeImageConfig, config),
		Layers: []ocispec.Descriptor{descriptor(ocispec.MediaTypeImageLayer, layer)},
	})
	if err != nil {
		return nil, err
	}
	named := descriptor(ocispec.MediaTypeImageManifest, manifest)
	named.Annotations = map[string]string{"io.containerd.image.name": ref, ocispec.AnnotationRefName: ref}
	index, err := json.Marshal(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{named}})
	if err != nil {
		return nil, err
	}
	files := []file{
		{ocispec.ImageLayoutFile, []byte(`{"imageLayoutVersion":"` + ocispec.ImageLayoutVersion + `"}`), 0o644},
		{ocispec.ImageIndexFile, index, 0o644},
	}
	for _, blob := range [][]byte{manifest, config, layer} {
		files = append(files, file{"blobs/sha256/" + digest.FromBytes(blob).Encoded(), blob, 0o644})
	}
	return tarOf(files...)
}

func descriptor(kind string, blob []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: kind, Digest: digest.FromBytes(blob), Size: int64(len(blob))}
}

type file struct {
	name string
	data []byte
	mode int64
}

func tarOf(files ...file) ([]byte, error) {
	var out bytes.Buffer
	t := tar.NewWriter(&out)
	for _, f := range files {
		err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: f.mode, Size: int64(len(f.data)), ModTime: time.Unix(0, 0)})
		if err == nil {
			_, err = io.Copy(t, bytes.NewReader(f.data))
		}
		if err != nil {
			return nil, fmt.Errorf("make an image of the probe: %w", err)
		}
	}
	return out.Bytes(), t.Close()
}
