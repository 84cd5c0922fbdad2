package upper

import (
	"archive/tar"
	"encoding/binary"
	"fmt"
	"io"
)

// How gVisor writes a regular file: its size, then for each extent where it begins and
// ends in the file and where it is in the filestore.
const (
	sizeBytes   = 8
	extentBytes = 3 * 8
)

// extent of a file. What lies between two is zero.
type extent struct{ start, end, store int64 }

// regular takes over the size of a file. Its extents are read again when it is written.
func (x *index) regular(e *entry, h *tar.Header, content io.Reader, tree io.Seeker) error {
	var size [sizeBytes]byte
	offset, err := tree.Seek(0, io.SeekCurrent)
	if err != nil {
		return fmt.Errorf("read the tree of files: %w", err)
	}
	if _, err := io.ReadFull(content, size[:]); err != nil || (h.Size-sizeBytes)%extentBytes != 0 {
		return bad("%q: an index of %d bytes", e.name, h.Size)
	}
	// What an archive calls a sparse file is larger than what it takes there.
	if h.Size > x.tree-offset {
		return bad("%q: an index of %d bytes, in %d of the tree", e.name, h.Size, x.tree-offset)
	}
	bytes := binary.LittleEndian.Uint64(size[:])
	if bytes > uint64(x.maxBytes-x.bytes) {
		return errTooLarge
	}
	e.header.Size = int64(bytes)
	x.bytes += e.header.Size
	e.offset, e.length = offset+sizeBytes, h.Size-sizeBytes
	return nil
}

// extents are in order, do not overlap and lie in the filestore.
func (e *entry) extents(s Source) ([]extent, error) {
	if _, err := s.Tree.Seek(e.offset, io.SeekStart); err != nil {
		return nil, fmt.Errorf("read where its bytes are: %w", err)
	}
	data := make([]byte, e.length)
	if _, err := io.ReadFull(s.Tree, data); err != nil {
		return nil, fmt.Errorf("read where its bytes are: %w", errRead(err))
	}
	list := make([]extent, 0, len(data)/extentBytes)
	last := uint64(0)
	for ; len(data) > 0; data = data[extentBytes:] {
		start, end := binary.LittleEndian.Uint64(data), binary.LittleEndian.Uint64(data[8:])
		store := binary.LittleEndian.Uint64(data[16:])
		switch size := uint64(s.StoreSize); {
		case start < last || end <= start || store > size || end-start > size-store:
			return nil, bad("bytes %d to %d at %d of %d", start, end, store, size)
		}
		last = end
		if of := uint64(e.header.Size); start < of { // the last page may lie beyond the end
			list = append(list, extent{int64(start), int64(min(end, of)), int64(store)})
		}
	}
	return list, nil
}

// copyContent writes size bytes.
func copyContent(w io.Writer, store io.ReaderAt, extents []extent, size int64) error {
	at := int64(0)
	for _, x := range extents {
		if err := zero(w, x.start-at); err != nil {
			return err
		}
		n := x.end - x.start
		if _, err := io.CopyN(w, io.NewSectionReader(store, x.store, n), n); err != nil {
			return errRead(err)
		}
		at = x.end
	}
	return zero(w, size-at)
}

var zeros [64 << 10]byte

func zero(w io.Writer, n int64) error {
	for n > 0 {
		m, err := w.Write(zeros[:min(n, int64(len(zeros)))])
		if err != nil {
			return err
		}
		n -= int64(m)
	}
	return nil
}
