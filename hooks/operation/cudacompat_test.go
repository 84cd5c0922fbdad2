package operation

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// withNote is a library with one section of a name, and a note of an owner in it.
func withNote(section, owner, text string) []byte {
	note := binary.LittleEndian.AppendUint32(nil, uint32(len(owner)+1))
	note = binary.LittleEndian.AppendUint32(note, uint32(len(text)+1))
	note = binary.LittleEndian.AppendUint32(note, 1)
	note = append(note, owner+"\x00"...)
	note = append(note, make([]byte, -len(note)&3)...)
	note = append(note, text+"\x00"...)
	names := "\x00" + section + "\x00"
	var b bytes.Buffer
	for _, part := range []any{
		elf.Header64{Ident: [16]byte{0x7f, 'E', 'L', 'F', 2, 1, 1}, Type: uint16(elf.ET_DYN), Shoff: 64, Shnum: 3, Shstrndx: 2},
		[]elf.Section64{
			{},
			{Name: 1, Type: uint32(elf.SHT_NOTE), Off: 64 * 4, Size: uint64(len(note)), Addralign: 4},
			{Type: uint32(elf.SHT_STRTAB), Off: 64*4 + uint64(len(note)), Size: uint64(len(names))},
		},
		note, []byte(names),
	} {
		_ = binary.Write(&b, binary.LittleEndian, part)
	}
	return b.Bytes()
}

func TestCUDACompat(t *testing.T) {
	const file = "usr/local/cuda/compat/libcuda.so.590.44.01"
	note := func(text string) string { return string(withNote(compatSection, compatOwner, text)) }
	for _, c := range []struct {
		name  string
		files map[string]string
		flags string
		want  string // the folder; empty: none
	}{
		{"no versions", map[string]string{file: "x"}, "", ""},
		{"no libraries", nil, "--host-driver-version=580.65.06", ""},
		{"a newer one", map[string]string{file: "x"}, "--host-driver-version=580.65.06", "/usr/local/cuda/compat"},
		{"the same", map[string]string{file: "x"}, "--host-driver-version=590.1.1", ""},
		{"an older one", map[string]string{file: "x"}, "--host-driver-version=610.1.1", ""},
		{"by number, not by letter", map[string]string{file: "x"}, "--host-driver-version=99.1.1", "/usr/local/cuda/compat"},
		{"two", map[string]string{file: "x", "usr/local/cuda/compat/libcuda.so.591.1": "x"}, "--host-driver-version=580.1", ""},
		{"a link", map[string]string{"usr/local/cuda/compat/libcuda.so.590.1": "-> /x", "x": "x"}, "--host-driver-version=580.1", ""},
		{"no version of its own", map[string]string{"usr/local/cuda/compat/libcuda.so.a.b": "x"}, "--host-driver-version=580.1", ""},
		{"elsewhere", map[string]string{"opt/compat/libcuda.so.590.1": "x"}, "--host-driver-version=580.1 --cuda-compat-container-root=/opt/compat", "/opt/compat"},
		{"through a link", map[string]string{"etc/alternatives/cuda/compat/libcuda.so.590.1": "x", "usr/local/cuda": "-> /etc/alternatives/cuda"}, "--host-driver-version=580.1", "/etc/alternatives/cuda/compat"},
		{"through a link up", map[string]string{"compat/libcuda.so.590.1": "x", "usr/local/cuda": "-> ../../.."}, "--host-driver-version=580.1", "/compat"},
		{"a folder that no file can name", map[string]string{"a b/compat/libcuda.so.590.1": "x", "usr/local/cuda": "-> /a b"}, "--host-driver-version=580.1", ""},
		{"a note that allows", map[string]string{file: note(`{"Driver":[570,580],"CUDA Version":"13.1"}`)}, "--host-driver-version=580.65.06", "/usr/local/cuda/compat"},
		{"a note that does not", map[string]string{file: note(`{"Driver":[570],"CUDA Version":"13.1"}`)}, "--host-driver-version=580.65.06", ""},
		{"a note, and newer drivers", map[string]string{file: note(`{"Driver":[590],"CUDA Version":"13.1"}`)}, "--host-driver-version=590.50", ""},
		{"a note by CUDA's version", map[string]string{file: note(`{"CUDA Version":"13.1"}`)}, "--host-cuda-version=13.0", "/usr/local/cuda/compat"},
		{"a note of an older CUDA", map[string]string{file: note(`{"CUDA Version":"12.9"}`)}, "--host-cuda-version=13.0", ""},
		{"no note, by CUDA's version", map[string]string{file: "x"}, "--host-cuda-version=13.0 --host-driver-version=580.1", ""},
		{"a note that is none", map[string]string{file: note(`{`)}, "--host-driver-version=580.65.06", "/usr/local/cuda/compat"},
		{"another's note", map[string]string{file: string(withNote(compatSection, "Somebody", `{"Driver":[1]}`))}, "--host-driver-version=580.65.06", "/usr/local/cuda/compat"},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := t.TempDir()
			tree(t, root, c.files)
			apply(t, root, nil, append([]string{"enable-cuda-compat"}, strings.Fields(c.flags)...)...)
			written, err := filepath.Glob(root + "/etc/ld.so.conf.d/00-compat-*.conf")
			must(t, err)
			got := ""
			for _, file := range written {
				data, err := os.ReadFile(file)
				must(t, err)
				got += string(data)
			}
			if got != c.want+strings.Repeat("\n", len(written)) || (c.want == "") != (len(written) == 0) {
				t.Errorf("%q is written, want %q", got, c.want)
			}
		})
	}
}

// FuzzCompatNote: a library that lies about its sections is one without a note.
func FuzzCompatNote(f *testing.F) {
	f.Add(withNote(compatSection, compatOwner, `{"Driver":[580],"CUDA Version":"13.1"}`))
	f.Add(withNote(".note", "x", ""))
	f.Fuzz(func(t *testing.T, data []byte) {
		if n, ok := readCompatNote(bytes.NewReader(data)); !ok && (n.CUDA != "" || n.Driver != nil) && !bytes.Contains(data, []byte(compatOwner)) {
			t.Fatalf("half a note: %+v", n)
		}
	})
}
