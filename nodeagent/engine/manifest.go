package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxLayers of an image. Each snapshot of a sandbox of a snapshot adds one, and the
// kernel stacks no more than a few hundred.
const maxLayers = 100

// parent image of a snapshot.
type parent struct {
	layers  []ocispec.Descriptor
	config  map[string]json.RawMessage // all of it, known or not
	rootfs  ocispec.RootFS
	history []ocispec.History
}

// mediaType of content that is known by its digest alone.
func (e *Engine) mediaType(ctx context.Context, d ocispec.Descriptor) (string, error) {
	data, err := content.ReadBlob(ctx, e.client.ContentStore(), d)
	if err != nil {
		return "", native(err)
	}
	var m struct {
		MediaType string            `json:"mediaType"`
		Manifests []json.RawMessage `json:"manifests"`
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return "", fmt.Errorf("read manifest: %w", err)
	}
	switch {
	case m.MediaType != "":
		return m.MediaType, nil
	case len(m.Manifests) > 0:
		return ocispec.MediaTypeImageIndex, nil
	}
	return ocispec.MediaTypeImageManifest, nil
}

func (e *Engine) readParent(ctx context.Context, target ocispec.Descriptor) (p parent, err error) {
	store := e.client.ContentStore()
	manifest, err := images.Manifest(ctx, store, target, platforms.Default())
	if err != nil {
		return p, native(err)
	}
	for _, l := range manifest.Layers {
		if images.IsLayerType(l.MediaType) {
			p.layers = append(p.layers, ocispec.Descriptor{MediaType: l.MediaType, Digest: l.Digest, Size: l.Size})
		}
	}
	data, err := content.ReadBlob(ctx, store, manifest.Config)
	if err != nil {
		return p, native(err)
	}
	if err := json.Unmarshal(data, &p.config); err != nil {
		return p, fmt.Errorf("read config: %w", err)
	}
	for key, into := range map[string]any{"rootfs": &p.rootfs, "history": &p.history} {
		if raw, ok := p.config[key]; ok {
			if err := json.Unmarshal(raw, into); err != nil {
				return p, fmt.Errorf("read config: %s: %w", key, err)
			}
		}
	}
	if len(p.layers) != len(p.rootfs.DiffIDs) {
		return p, fmt.Errorf("it has %d layers and tells of %d: %w", len(p.layers), len(p.rootfs.DiffIDs), errdefs.ErrFailedPrecondition)
	}
	if len(p.layers) >= maxLayers {
		return p, fmt.Errorf("it has %d layers, and no more fit on it: build an image of fewer: %w", len(p.layers), errdefs.ErrFailedPrecondition)
	}
	return p, nil
}

// withLayer is the config of p with a layer more.
func (p parent) withLayer(id digest.Digest, now time.Time) ([]byte, error) {
	config := make(map[string]any, len(p.config))
	for k, v := range p.config {
		config[k] = v
	}
	config["created"] = now
	config["rootfs"] = ocispec.RootFS{Type: "layers", DiffIDs: append(p.rootfs.DiffIDs[:len(p.rootfs.DiffIDs):len(p.rootfs.DiffIDs)], id)}
	config["history"] = append(p.history[:len(p.history):len(p.history)], ocispec.History{Created: &now, CreatedBy: "brig snapshot"})
	return json.Marshal(config)
}

// addManifest keeps a config and a manifest of p with a layer more. Labels keep what one
// refers to from the garbage collector.
func (e *Engine) addManifest(ctx context.Context, p parent, layer ocispec.Descriptor) (ocispec.Descriptor, error) {
	data, err := p.withLayer(layer.Digest, time.Now().UTC())
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("encode config: %w", err)
	}
	config, err := e.keep(ctx, ocispec.MediaTypeImageConfig, data, nil)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: config, Layers: append(p.layers[:len(p.layers):len(p.layers)], layer),
	}
	if data, err = json.Marshal(m); err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("encode manifest: %w", err)
	}
	refs := map[string]string{"containerd.io/gc.ref.content.config": config.Digest.String()}
	for i, l := range m.Layers {
		refs[fmt.Sprintf("containerd.io/gc.ref.content.l.%d", i)] = l.Digest.String()
	}
	return e.keep(ctx, m.MediaType, data, refs)
}

func (e *Engine) keep(ctx context.Context, mediaType string, data []byte, labels map[string]string) (ocispec.Descriptor, error) {
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	err := content.WriteBlob(ctx, e.client.ContentStore(), d.Digest.String(), bytes.NewReader(data), d, content.WithLabels(labels))
	if err != nil {
		return d, fmt.Errorf("keep %s: %w", mediaType, native(err))
	}
	return d, nil
}
