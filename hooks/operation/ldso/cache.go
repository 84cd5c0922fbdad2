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
	strs, places := stringTable(sorted)
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
		b = le.AppendUint32(b, uint32(e.Flags))
		b = le.AppendUint32(b, uint32(start+places[i].name))
		b = le.AppendUint32(b, uint32(start+places[i].path))
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

// place is where an entry's strings are in the table.
type place struct{ name, path int }

// stringTable holds each path once. A name is the end of its path, or follows it.
func stringTable(entries []Entry) (table []byte, places []place) {
	seen := map[string]int{}
	for _, e := range entries {
		text, name := e.Path, len(e.Path)-len(e.Name)
		if !strings.HasSuffix(text, "/"+e.Name) {
			text, name = text+"\x00"+e.Name, len(text)+1
		}
		offset, ok := seen[text]
		if !ok {
			offset = len(table)
			seen[text] = offset
			table = append(append(table, text...), 0)
		}
		places = append(places, place{offset + name, offset})
	}
	return table, places
}
