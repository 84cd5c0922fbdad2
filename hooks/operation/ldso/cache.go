package ldso

import (
	"encoding/binary"
	"slices"
	"strings"
)

// The cache's format, "new" since glibc 2.2 and the only one that ldconfig writes since 2.32.
const (
	magic       = "glibc-ld.so.cache1.1"
	headerBytes = 48
	entryBytes  = 24
	little      = 2 // of flags: the byte order

	extensionMagic = 0xeaa42174
	extensionBytes = 8 + 16 // one section
	generator      = "brig"
)

// Encode makes a cache of the entries. Of two for the same name and kind the earlier one
// comes first, and is found. The same entries give the same bytes.
func Encode(entries []Entry) []byte {
	sorted := slices.Clone(entries)
	slices.SortStableFunc(sorted, order)
	strs, offsets := stringTable(sorted)
	start := headerBytes + entryBytes*len(sorted)
	extension := (start + len(strs) + 3) &^ 3

	b := make([]byte, 0, extension+extensionBytes+len(generator))
	le := binary.LittleEndian
	b = append(b, magic...)
	b = le.AppendUint32(b, uint32(len(sorted)))
	b = le.AppendUint32(b, uint32(len(strs)))
	b = append(b, little, 0, 0, 0)
	b = le.AppendUint32(b, uint32(extension))
	b = append(b, make([]byte, headerBytes-len(b))...)
	for i, e := range sorted {
		path := start + offsets[i]
		b = le.AppendUint32(b, uint32(e.Flags))
		b = le.AppendUint32(b, uint32(path+len(e.Path)-len(e.Name))) // stringTable put it there
		b = le.AppendUint32(b, uint32(path))
		b = append(b, make([]byte, 4+8)...) // no kernel's version, no hwcaps
	}
	b = append(b, strs...)
	b = append(b, make([]byte, extension-len(b))...)
	for _, v := range []uint32{extensionMagic, 1, 0, 0, uint32(extension + extensionBytes), uint32(len(generator))} {
		b = le.AppendUint32(b, v)
	}
	return append(b, generator...)
}

// order is descending, because the linker's search is.
func order(a, b Entry) int {
	if c := Compare(b.Name, a.Name); c != 0 {
		return c
	}
	switch {
	case a.Flags < b.Flags:
		return 1
	case a.Flags > b.Flags:
		return -1
	}
	return 0
}

// stringTable holds each path once. A name is the end of its path; where it is not, the
// name follows the path's text, as if it were.
func stringTable(entries []Entry) (table []byte, offsets []int) {
	seen := map[string]int{}
	for _, e := range entries {
		text := e.Path
		if !strings.HasSuffix(text, "/"+e.Name) {
			text += "\x00" + e.Name
		}
		offset, ok := seen[text]
		if !ok {
			offset = len(table)
			seen[text] = offset
			table = append(append(table, text...), 0)
		}
		offsets = append(offsets, offset)
	}
	return table, offsets
}
