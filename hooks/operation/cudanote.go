package operation

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"encoding/json"
	"io"
)

// compatNote is what a compatibility library says of itself, as JSON in an ELF note.
type compatNote struct {
	CUDA   string `json:"CUDA Version"`
	Driver []int  // the major versions of drivers that it works on
}

// Bounds: libcuda has some forty sections, and a note of about a hundred bytes.
const (
	maxSections     = 1024
	maxSectionNames = 64 << 10 // bytes
	maxNote         = 64 << 10 // bytes
	compatSection   = ".note.cuda.fwd_compatibility"
	compatOwner     = "NVIDIA Corporation"
)

// readCompatNote reads the note, if there is one that can be understood.
func readCompatNote(r io.ReaderAt) (compatNote, bool) {
	var n compatNote
	data := section(r, compatSection)
	if len(data) < 12 {
		return n, false
	}
	owner, text := uint64(binary.LittleEndian.Uint32(data)), uint64(binary.LittleEndian.Uint32(data[4:]))
	start := 12 + (owner+3)&^3
	if start+text > uint64(len(data)) || string(bytes.Trim(data[12:12+owner], "\x00")) != compatOwner {
		return n, false
	}
	err := json.Unmarshal(bytes.Trim(data[start:start+text], "\x00"), &n)
	return n, err == nil
}

// section returns a note's content, or nil. debug/elf reads all names of sections, however
// long a file claims that they are.
func section(r io.ReaderAt, name string) []byte {
	var h elf.Header64
	if !readAt(r, 0, 1<<10, &h) || string(h.Ident[:4]) != elf.ELFMAG || elf.Class(h.Ident[elf.EI_CLASS]) != elf.ELFCLASS64 ||
		h.Shnum > maxSections || h.Shstrndx >= h.Shnum {
		return nil
	}
	sections := make([]elf.Section64, h.Shnum)
	if !readAt(r, h.Shoff, 1<<20, sections) {
		return nil
	}
	names := make([]byte, min(sections[h.Shstrndx].Size, maxSectionNames))
	if !readAt(r, sections[h.Shstrndx].Off, maxSectionNames, names) {
		return nil
	}
	for _, s := range sections {
		if elf.SectionType(s.Type) != elf.SHT_NOTE || uint64(s.Name) >= uint64(len(names)) {
			continue
		}
		is, _, _ := bytes.Cut(names[s.Name:], []byte{0})
		if string(is) != name || s.Size > maxNote {
			continue
		}
		if data := make([]byte, s.Size); readAt(r, s.Off, maxNote, data) {
			return data
		}
	}
	return nil
}

func readAt(r io.ReaderAt, offset uint64, limit int, v any) bool {
	if size := binary.Size(v); offset>>63 == 0 && size <= limit {
		return binary.Read(io.NewSectionReader(r, int64(offset), int64(size)), binary.LittleEndian, v) == nil
	}
	return false
}
