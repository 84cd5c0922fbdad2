// Package upper makes a layer of an image of what a sandbox has written to its root.
//
// gVisor tells it in two parts: an archive of names and attributes, in which a regular
// file's content is a list of extents, and the filestore, which is one file of the host's
// with the bytes at those extents. Write reads both and writes a tar archive as the OCI's
// image specification wants a layer: whiteouts by name, hard links after what they link
// to, extended attributes as they are set. The same files give the same bytes, whatever
// order the sentry tells them in.
//
// Both parts are the sentry's, which may be compromised. Nothing in them leads out of the
// layer: names are below its root and each of them there once, in a folder that the layer
// or the image has; links lead to files of the layer; extents lie in the filestore. How
// many entries there are, how long names and attributes and how large the layer, is
// bounded. What is not understood is an error.
package upper

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"

	"github.com/containerd/errdefs"
)

// Source is what gVisor tells. Size is of both in bytes.
type Source struct {
	Tree      io.ReadSeeker // the archive
	Store     io.ReaderAt   // the filestore
	StoreSize int64
}

// Write writes the layer to w, at most maxBytes of it. If that is not enough the error is
// an errdefs.ErrResourceExhausted; what the sentry may not say is an ErrInvalidArgument.
func Write(w io.Writer, s Source, maxBytes int64) error {
	index, err := read(s, maxBytes)
	if err != nil {
		return err
	}
	out := tar.NewWriter(&bounded{w: w, left: maxBytes})
	for _, e := range index {
		if err := write(out, s, e); err != nil {
			return fmt.Errorf("write %q to the layer: %w", e.header.Name, err)
		}
	}
	if err := out.Close(); err != nil {
		return fmt.Errorf("write the layer: %w", err)
	}
	return nil
}

func write(out *tar.Writer, s Source, e *entry) error {
	if err := out.WriteHeader(&e.header); err != nil {
		return err
	}
	if e.opaque {
		if err := out.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: e.header.Name + opaqueName, ModTime: e.header.ModTime, Format: tar.FormatPAX}); err != nil {
			return err
		}
	}
	if e.header.Typeflag != tar.TypeReg || e.header.Size == 0 {
		return nil
	}
	extents, err := e.extents(s)
	if err != nil {
		return err
	}
	return copyContent(out, s.Store, extents, e.header.Size)
}

// errTooLarge says so without a number: the limit is the caller's to explain.
var errTooLarge = errdefs.ErrResourceExhausted.WithMessage("the files are larger than there is room for")

// bounded writes no more than it may.
type bounded struct {
	w    io.Writer
	left int64
}

func (b *bounded) Write(p []byte) (int, error) {
	if int64(len(p)) > b.left {
		return 0, errTooLarge
	}
	b.left -= int64(len(p))
	return b.w.Write(p)
}

// bad is an error about what the sentry says.
func bad(format string, args ...any) error {
	return fmt.Errorf("%w: %w", fmt.Errorf(format, args...), errdefs.ErrInvalidArgument)
}

// errRead keeps an end that comes too early from passing for a good one.
func errRead(err error) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return err
}
