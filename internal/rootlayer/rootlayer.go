// Package rootlayer is the question that brigd asks a shim for what a sandbox has written
// to its root filesystem, as a layer of an image. Values only, no I/O.
//
// It travels as the payload of the Task API's Update, which containerd hands on unread:
// so containerd finds the shim, and a shim that does not know the type refuses it.
package rootlayer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
)

// TypeURL names the payload.
const TypeURL = "io.containerd.brig.v1/RootLayer"

// Request for a layer. Programs stand still while it is written.
type Request struct {
	// Path of the file that the shim is to make, absolute and clean, in a folder that
	// root alone can write to. It is not there before, nor after a failure.
	Path string `json:"path"`
	// MaxBytes that the layer may have.
	MaxBytes int64 `json:"max_bytes"`
}

// Encode returns the payload.
func (r Request) Encode() ([]byte, error) { return json.Marshal(r) }

// Decode reads a payload, refusing a field that it does not know.
func Decode(payload []byte) (Request, error) {
	var r Request
	d := json.NewDecoder(bytes.NewReader(payload))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return Request{}, fmt.Errorf("request for a root's layer: %w", err)
	}
	if !filepath.IsAbs(r.Path) || filepath.Clean(r.Path) != r.Path {
		return Request{}, fmt.Errorf("request for a root's layer: path %q: want a clean absolute one", r.Path)
	}
	if r.MaxBytes <= 0 {
		return Request{}, errors.New("request for a root's layer: max_bytes is missing")
	}
	return r, nil
}
