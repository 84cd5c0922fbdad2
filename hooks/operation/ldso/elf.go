package ldso

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io"
)

// ErrNoLibrary is a file that the linker could not load as a library.
var ErrNoLibrary = errors.New("not a shared library")

// Bounds. Libraries have a dozen segments and some forty dynamic entries.
const (
	maxSegments = 512
	maxDynamic  = 64 << 10 // bytes
	maxSoname   = 255      // bytes, NAME_MAX
)

// Inspect reads what the cache wants to know of a library: from its segments, as ldconfig
// and the linker do. debug/elf goes by sections, which a library need not have, and reads
// their names whole, however long a file claims that they are.
func Inspect(r io.ReaderAt) (Library, error) {
	var ident [elf.EI_NIDENT]byte
	if err := read(r, 0, &ident); err != nil {
		return Library{}, err
	}
	if string(ident[:4]) != elf.ELFMAG || elf.Data(ident[elf.EI_DATA]) != elf.ELFDATA2LSB {
		return Library{}, ErrNoLibrary
	}
	switch elf.Class(ident[elf.EI_CLASS]) {
	case elf.ELFCLASS64:
		return inspect[elf.Header64, elf.Prog64, elf.Dyn64](r)
	case elf.ELFCLASS32:
		return inspect[elf.Header32, elf.Prog32, elf.Dyn32](r)
	}
	return Library{}, ErrNoLibrary
}

// segment is a program header of either class.
type segment struct {
	kind                 elf.ProgType
	offset, vaddr, bytes uint64
}

func inspect[H elf.Header64 | elf.Header32, P elf.Prog64 | elf.Prog32, D elf.Dyn64 | elf.Dyn32](r io.ReaderAt) (Library, error) {
	var h H
	if err := read(r, 0, &h); err != nil {
		return Library{}, err
	}
	kind, flags, offset, count := header(any(h))
	if kind != elf.ET_DYN || flags == 0 || count > maxSegments {
		return Library{}, ErrNoLibrary
	}
	headers := make([]P, count)
	if err := read(r, offset, headers); err != nil {
		return Library{}, err
	}
	segments := make([]segment, 0, count)
	for _, p := range headers {
		segments = append(segments, program(any(p)))
	}
	dynamic, err := dynamicEntries[D](r, segments)
	if err != nil {
		return Library{}, err
	}
	name, err := soname(r, segments, dynamic)
	return Library{Soname: name, Flags: flags}, err
}

func header(h any) (kind elf.Type, flags Flags, offset uint64, count int) {
	switch h := h.(type) {
	case elf.Header64:
		switch elf.Machine(h.Machine) {
		case elf.EM_X86_64:
			flags = X86_64
		case elf.EM_AARCH64:
			flags = AArch64
		}
		return elf.Type(h.Type), flags, h.Phoff, int(h.Phnum)
	case elf.Header32:
		switch elf.Machine(h.Machine) {
		case elf.EM_386:
			flags = I386
		case elf.EM_X86_64:
			flags = X32
		}
		return elf.Type(h.Type), flags, uint64(h.Phoff), int(h.Phnum)
	}
	return
}

func program(p any) segment {
	switch p := p.(type) {
	case elf.Prog64:
		return segment{elf.ProgType(p.Type), p.Off, p.Vaddr, p.Filesz}
	case elf.Prog32:
		return segment{elf.ProgType(p.Type), uint64(p.Off), uint64(p.Vaddr), uint64(p.Filesz)}
	}
	return segment{}
}

// dynamicEntries returns the values of those that matter, the first of each tag.
func dynamicEntries[D elf.Dyn64 | elf.Dyn32](r io.ReaderAt, segments []segment) (map[elf.DynTag]uint64, error) {
	for _, s := range segments {
		if s.kind != elf.PT_DYNAMIC {
			continue
		}
		var one D
		list := make([]D, min(s.bytes, maxDynamic)/uint64(binary.Size(one)))
		if err := read(r, s.offset, list); err != nil {
			return nil, err
		}
		values := map[elf.DynTag]uint64{}
		for _, d := range list {
			tag, value := dyn(any(d))
			if tag == elf.DT_NULL {
				break
			}
			if _, seen := values[tag]; !seen && (tag == elf.DT_STRTAB || tag == elf.DT_SONAME) {
				values[tag] = value
			}
		}
		return values, nil
	}
	return nil, ErrNoLibrary
}

func dyn(d any) (elf.DynTag, uint64) {
	switch d := d.(type) {
	case elf.Dyn64:
		return elf.DynTag(d.Tag), d.Val
	case elf.Dyn32:
		return elf.DynTag(d.Tag), uint64(d.Val)
	}
	return elf.DT_NULL, 0
}

// soname reads the library's own name, which may be missing.
func soname(r io.ReaderAt, segments []segment, dynamic map[elf.DynTag]uint64) (string, error) {
	table, ok := dynamic[elf.DT_STRTAB]
	if !ok {
		return "", ErrNoLibrary
	}
	offset, ok := dynamic[elf.DT_SONAME]
	if !ok {
		return "", nil
	}
	for _, s := range segments {
		if s.kind != elf.PT_LOAD || table < s.vaddr || table-s.vaddr >= s.bytes || offset > s.bytes {
			continue
		}
		at := s.offset + (table - s.vaddr) + offset
		if at > maxOffset {
			break
		}
		buf := make([]byte, maxSoname+1)
		n, err := r.ReadAt(buf, int64(at))
		if err != nil && err != io.EOF {
			return "", err
		}
		name, _, ok := bytes.Cut(buf[:n], []byte{0})
		if !ok || !FileName(string(name)) {
			break
		}
		return string(name), nil
	}
	return "", ErrNoLibrary
}

// maxOffset is beyond every file. A sum that wraps is only another place in it.
const maxOffset = 1 << 48

// read fills in what binary.Size says of v. An end of the file before is no library.
func read(r io.ReaderAt, offset uint64, v any) error {
	size := binary.Size(v)
	if size == 0 || offset > maxOffset {
		return ErrNoLibrary
	}
	err := binary.Read(io.NewSectionReader(r, int64(offset), int64(size)), binary.LittleEndian, v)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return ErrNoLibrary
	}
	return err
}

// FileName tells whether a library may say that this is its name: a file's name without a
// folder, of printable characters without blanks. It becomes the name of a link.
func FileName(s string) bool {
	if s == "" || s == "." || s == ".." || len(s) > maxSoname {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' || s[i] == '/' {
			return false
		}
	}
	return true
}
