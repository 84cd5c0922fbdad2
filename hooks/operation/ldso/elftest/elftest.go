// Package elftest makes shared libraries for tests: the least that ldconfig takes for one.
package elftest

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
)

// Library of 64 bits for a machine. An empty soname is none.
func Library(machine elf.Machine, soname string) []byte {
	const dynamicAt, segments = 64 + 2*56, 2
	dynamic := []elf.Dyn64{{Tag: int64(elf.DT_STRTAB)}, {Tag: int64(elf.DT_NULL)}}
	if soname != "" {
		dynamic = append([]elf.Dyn64{{Tag: int64(elf.DT_SONAME), Val: 1}}, dynamic...)
	}
	size := uint64(16 * len(dynamic))
	dynamic[len(dynamic)-2].Val = dynamicAt + size
	end := dynamicAt + size + uint64(len(soname)) + 2

	var b bytes.Buffer
	for _, part := range []any{
		elf.Header64{
			Ident: [16]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
			Type:  uint16(elf.ET_DYN), Machine: uint16(machine), Version: uint32(elf.EV_CURRENT),
			Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: segments, Shentsize: 64,
		},
		elf.Prog64{Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R), Filesz: end, Memsz: end, Align: 4096},
		elf.Prog64{Type: uint32(elf.PT_DYNAMIC), Flags: uint32(elf.PF_R), Off: dynamicAt, Vaddr: dynamicAt, Filesz: size, Memsz: size, Align: 8},
		dynamic,
		[]byte("\x00" + soname + "\x00"),
	} {
		// A bytes.Buffer takes everything.
		_ = binary.Write(&b, binary.LittleEndian, part)
	}
	return b.Bytes()
}
