package ldso

import (
	"cmp"
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
	sectionBytes   = 16
	tagGenerator   = 0
	tagHwcaps      = 1
	generator      = "brig"
	hwcapsBit      = 1 << 62 // of an entry's hwcap, whose lower half is then an index
)

// Encode makes a cache of the entries. Of two for the same name and kind the earlier one
// comes first, and is found. The same entries give the same bytes.
func Encode(entries []Entry) []byte {
	sorted := slices.Clone(entries)
	slices.SortStableFunc(sorted, order)
	t := table{start: headerBytes + entryBytes*len(sorted), seen: map[string]int{}}
	hwcaps := hwcapsOf(sorted)

	le := binary.LittleEndian
	var libs []byte
	for _, e := range sorted {
		name, path := t.place(e)
		libs = le.AppendUint32(libs, uint32(e.Flags))
		libs = le.AppendUint32(libs, uint32(name))
		libs = le.AppendUint32(libs, uint32(path))
		libs = le.AppendUint32(libs, 0) // once a kernel's version
		var hwcap uint64
		if i := slices.Index(hwcaps, e.Hwcaps); i >= 0 {
			hwcap = hwcapsBit | uint64(i)
		}
		libs = le.AppendUint64(libs, hwcap)
	}
	var kinds []byte
	for _, h := range hwcaps {
		kinds = le.AppendUint32(kinds, uint32(t.add(h)))
	}
	extension := (t.start + len(t.text) + 3) &^ 3

	b := []byte(magic)
	b = le.AppendUint32(b, uint32(len(sorted)))
	b = le.AppendUint32(b, uint32(len(t.text)))
	b = append(b, little, 0, 0, 0)
	b = le.AppendUint32(b, uint32(extension))
	b = append(b, make([]byte, headerBytes-len(b))...)
	b = slices.Concat(b, libs, t.text)
	b = append(b, make([]byte, extension-len(b))...)
	return appendExtension(b, kinds)
}

// appendExtension ends a cache with who made it and the kinds of processors in it.
func appendExtension(b, kinds []byte) []byte {
	sections := 1
	if len(kinds) > 0 {
		sections++
	}
	first := len(b) + 8 + sections*sectionBytes
	fields := []uint32{extensionMagic, uint32(sections), tagGenerator, 0, uint32(first + len(kinds)), uint32(len(generator))}
	if len(kinds) > 0 {
		fields = append(fields, tagHwcaps, 0, uint32(first), uint32(len(kinds)))
	}
	for _, f := range fields {
		b = binary.LittleEndian.AppendUint32(b, f)
	}
	return append(append(b, kinds...), generator...)
}

// order is descending, because the linker's search is. It stops at the first entry that is
// for any processor.
func order(a, b Entry) int {
	return cmp.Or(Compare(b.Name, a.Name), cmp.Compare(b.Flags, a.Flags),
		-cmp.Compare(min(len(a.Hwcaps), 1), min(len(b.Hwcaps), 1)), strings.Compare(a.Hwcaps, b.Hwcaps))
}

// hwcapsOf lists the kinds of processors, sorted.
func hwcapsOf(entries []Entry) []string {
	var kinds []string
	for _, e := range entries {
		if e.Hwcaps != "" {
			kinds = append(kinds, e.Hwcaps)
		}
	}
	slices.Sort(kinds)
	return slices.Compact(kinds)
}

// table of strings, each once.
type table struct {
	start int // of the table in the cache
	text  []byte
	seen  map[string]int
}

// add returns where a string is in the cache.
func (t *table) add(s string) int {
	at, ok := t.seen[s]
	if !ok {
		at = t.start + len(t.text)
		t.seen[s] = at
		t.text = append(append(t.text, s...), 0)
	}
	return at
}

// place returns where an entry's strings are. A name is the end of its path, if it can be.
func (t *table) place(e Entry) (name, path int) {
	path = t.add(e.Path)
	if strings.HasSuffix(e.Path, "/"+e.Name) {
		return path + len(e.Path) - len(e.Name), path
	}
	return t.add(e.Name), path
}
