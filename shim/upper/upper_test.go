package upper

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
)

// file as a sentry tells it.
type file struct {
	header  tar.Header
	content []byte
}

var then = time.Unix(1700000000, 0)

func dir(name string) file {
	return file{header: tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755, ModTime: then}}
}

func gone(name string) file {
	return file{header: tar.Header{Typeflag: tar.TypeChar, Name: name, ModTime: then}}
}

func link(name, to string) file {
	return file{header: tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: to, Mode: 0o644, ModTime: then}}
}

// regular has its size and the extents (start, end, offset in the filestore) for content.
func regular(name string, size uint64, extents ...[3]uint64) file {
	content := binary.LittleEndian.AppendUint64(nil, size)
	for _, x := range extents {
		for _, v := range x {
			content = binary.LittleEndian.AppendUint64(content, v)
		}
	}
	return file{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, ModTime: then, Size: int64(len(content))}, content}
}

func (f file) with(edit func(*tar.Header)) file {
	edit(&f.header)
	return f
}

const root = "./"

// store is a filestore of three pages.
var store = strings.Repeat("a", 4096) + strings.Repeat("b", 4096) + strings.Repeat("c", 4096)

func source(t testing.TB, files []file) Source {
	t.Helper()
	var tree bytes.Buffer
	out := tar.NewWriter(&tree)
	for _, f := range files {
		if err := out.WriteHeader(&f.header); err != nil {
			t.Fatal(err)
		}
		if _, err := out.Write(f.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	return Source{Tree: bytes.NewReader(tree.Bytes()), Store: strings.NewReader(store), StoreSize: int64(len(store))}
}

// show is a layer as text.
func show(t *testing.T, layer io.Reader) string {
	t.Helper()
	var text strings.Builder
	in := tar.NewReader(layer)
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return text.String()
		} else if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&text, "%c %04o %d:%d %s", h.Typeflag, h.Mode, h.Uid, h.Gid, h.Name)
		if h.Linkname != "" {
			fmt.Fprintf(&text, " -> %s", h.Linkname)
		}
		if h.Devmajor+h.Devminor > 0 {
			fmt.Fprintf(&text, " %d:%d", h.Devmajor, h.Devminor)
		}
		for _, k := range slices.Sorted(maps.Keys(h.PAXRecords)) {
			if strings.HasPrefix(k, xattrRecord) {
				fmt.Fprintf(&text, " %s=%x", strings.TrimPrefix(k, xattrRecord), h.PAXRecords[k])
			}
		}
		data, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		for len(data) > 0 { // runs of one byte
			n := len(data) - len(bytes.TrimLeft(data, string(data[:1])))
			fmt.Fprintf(&text, " %d*%q", n, data[0])
			data = data[n:]
		}
		text.WriteString("\n")
	}
}

func TestLayer(t *testing.T) {
	files := []file{
		dir("./d/").with(func(h *tar.Header) {
			h.PAXRecords = map[string]string{"SCHILY.xattr.trusted.overlay.opaque": "y", "SCHILY.xattr.trusted.overlay.origin": "x"}
		}),
		regular("./d/suid", 4097, [3]uint64{0, 8192, 4096}).with(func(h *tar.Header) { h.Mode, h.Uid, h.Gid = 0o4755, 5, 6 }),
		regular("./d/sparse", 20000, [3]uint64{4096, 8192, 0}, [3]uint64{16384, 20480, 8192}),
		regular("./d/empty", 0, [3]uint64{0, 4096, 0}),
		regular("./d/attributes", 1, [3]uint64{0, 4096, 0}).with(func(h *tar.Header) {
			h.PAXRecords = map[string]string{
				"SCHILY.xattr.user.a": "1", "SCHILY.xattr.security.capability": "\x01\x00", "SCHILY.xattr.system.posix_acl_access": "AgAAAA",
			}
		}),
		{header: tar.Header{Typeflag: tar.TypeSymlink, Name: "./d/link", Linkname: "../../etc/passwd", Mode: 0o777, ModTime: then}},
		{header: tar.Header{Typeflag: tar.TypeFifo, Name: "./d/fifo", Mode: 0o600, ModTime: then}},
		{header: tar.Header{Typeflag: tar.TypeBlock, Name: "./d/disk", Mode: 0o600, Devmajor: 8, Devminor: 1, ModTime: then}},
		dir("./e/"),
		gone("./e/passwd"),
		link("./bin", "./e/passwd"), // one inode for all whiteouts
		regular("./z", 2, [3]uint64{0, 4096, 8192}),
		link("./e/one", "./z"), link("./a", "./z"),
	}
	var first []byte
	for range 20 {
		rand.Shuffle(len(files), func(i, j int) { files[i], files[j] = files[j], files[i] })
		var layer bytes.Buffer
		if err := Write(&layer, source(t, append([]file{dir(root)}, files...)), 1<<20); err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = layer.Bytes()
		}
		if !bytes.Equal(first, layer.Bytes()) {
			t.Fatal("another order of the same files gives another layer")
		}
	}
	if diff := cmp.Diff(`0 0644 0:0 a 2*'c'
0 0000 0:0 .wh.bin
5 0755 0:0 d/
0 0000 0:0 d/.wh..wh..opq
0 0644 0:0 d/attributes security.capability=0100 system.posix_acl_access=02000000 user.a=31 1*'a'
4 0600 0:0 d/disk 8:1
0 0644 0:0 d/empty
6 0600 0:0 d/fifo
2 0777 0:0 d/link -> ../../etc/passwd
0 0644 0:0 d/sparse 4096*'\x00' 4096*'a' 8192*'\x00' 3616*'c'
0 4755 5:6 d/suid 4096*'b' 1*'c'
5 0755 0:0 e/
1 0644 0:0 e/one -> a
0 0000 0:0 e/.wh.passwd
1 0644 0:0 z -> a
`, show(t, bytes.NewReader(first))); diff != "" {
		t.Errorf("layer (-want +got):\n%s", diff)
	}
}

// TestHostile: what a compromised sentry might tell.
func TestHostile(t *testing.T) {
	for _, c := range []struct {
		name  string
		files []file
		want  string
		is    func(error) bool
	}{
		{"an absolute name", []file{dir("/etc/")}, "does not begin with ./", errdefs.IsInvalidArgument},
		{"a way out", []file{dir("./a/"), dir("./a/../../b/")}, `name "./a/../../b/"`, errdefs.IsInvalidArgument},
		{"dots alone", []file{dir("./../")}, `name "./../"`, errdefs.IsInvalidArgument},
		{"an empty part", []file{dir("./a//b/")}, `name "./a//b/"`, errdefs.IsInvalidArgument},
		{"a long part", []file{dir("./" + strings.Repeat("x", 256) + "/")}, "name", errdefs.IsInvalidArgument},
		{"a long name", []file{dir("./" + strings.Repeat("x/", 2100))}, "bytes", errdefs.IsInvalidArgument},
		{"twice", []file{dir("./a/"), gone("./a")}, "there twice", errdefs.IsInvalidArgument},
		{"in a link", []file{{header: tar.Header{Typeflag: tar.TypeSymlink, Name: "./a", Linkname: "/etc"}}, regular("./a/shadow", 0)},
			"is in no folder", errdefs.IsInvalidArgument},
		{"in nothing", []file{regular("./a/b", 0)}, "is in no folder", errdefs.IsInvalidArgument},
		{"a hard link to what the image has", []file{link("./a", "./etc/shadow")}, "which is no file", errdefs.IsInvalidArgument},
		{"a hard link out", []file{link("./a", "/etc/shadow")}, "hard link to", errdefs.IsInvalidArgument},
		{"a hard link to a folder", []file{dir("./d/"), link("./a", "./d/")}, "which is no file", errdefs.IsInvalidArgument},
		{"hard links in a circle", []file{link("./a", "./b"), link("./b", "./a")}, "which is no file", errdefs.IsInvalidArgument},
		{"a whiteout of its own", []file{regular("./.wh.bin", 0)}, "names that begin with .wh.", errdefs.IsFailedPrecondition},
		{"an opaque file", []file{regular("./a", 0).with(func(h *tar.Header) {
			h.PAXRecords = map[string]string{"SCHILY.xattr.trusted.overlay.opaque": "y"}
		})}, "opaque and no folder", errdefs.IsInvalidArgument},
		{"another type", []file{{header: tar.Header{Typeflag: tar.TypeCont, Name: "./a"}}}, "type", errdefs.IsInvalidArgument},
		{"an attribute of the host's", []file{regular("./a", 0).with(func(h *tar.Header) {
			h.PAXRecords = map[string]string{"SCHILY.xattr.security.selinux": "x"}
		})}, "security.selinux", errdefs.IsFailedPrecondition},
		{"a list that is none", []file{regular("./a", 0).with(func(h *tar.Header) {
			h.PAXRecords = map[string]string{"SCHILY.xattr.system.posix_acl_access": "!"}
		})}, "posix_acl_access", errdefs.IsInvalidArgument},
		{"no size", []file{{tar.Header{Typeflag: tar.TypeReg, Name: "./a", Size: 3}, []byte("abc")}}, "an index of 3 bytes", errdefs.IsInvalidArgument},
		{"half an extent", []file{{tar.Header{Typeflag: tar.TypeReg, Name: "./a", Size: 20}, make([]byte, 20)}}, "an index of 20 bytes", errdefs.IsInvalidArgument},
		{"beyond the filestore", []file{regular("./a", 4096, [3]uint64{0, 4096, 8193})}, "of 12288", errdefs.IsInvalidArgument},
		{"far beyond it", []file{regular("./a", 4096, [3]uint64{0, 4096, 1<<64 - 1})}, "of 12288", errdefs.IsInvalidArgument},
		{"a large extent", []file{regular("./a", 4096, [3]uint64{0, 1<<64 - 1, 0})}, "of 12288", errdefs.IsInvalidArgument},
		{"extents that overlap", []file{regular("./a", 8192, [3]uint64{0, 4096, 0}, [3]uint64{100, 4096, 0})}, "bytes 100 to 4096", errdefs.IsInvalidArgument},
		{"an extent backwards", []file{regular("./a", 8192, [3]uint64{4096, 0, 0})}, "bytes 4096 to 0", errdefs.IsInvalidArgument},
		{"1 TiB of nothing", []file{regular("./a", 1<<40)}, "larger than there is room for", errdefs.IsResourceExhausted},
		{"a size that overflows", []file{regular("./a", 1<<63), regular("./b", 1<<63)}, "larger than there is room for", errdefs.IsResourceExhausted},
		{"many large files", []file{regular("./a", 1<<19), regular("./b", 1<<19), regular("./c", 1<<19)}, "larger than there is room for", errdefs.IsResourceExhausted},
	} {
		err := Write(io.Discard, source(t, c.files), 1<<20)
		if err == nil || !strings.Contains(err.Error(), c.want) || !c.is(err) {
			t.Errorf("%s: %v; want %q", c.name, err, c.want)
		}
	}
}

func TestCutShort(t *testing.T) {
	s := source(t, []file{regular("./a", 4096, [3]uint64{0, 4096, 0})})
	whole, err := io.ReadAll(s.Tree)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{100, 700} {
		s.Tree = bytes.NewReader(whole[:n])
		if err := Write(io.Discard, s, 1<<20); err == nil {
			t.Errorf("%d bytes of the tree were enough", n)
		}
	}
	s.Tree, s.Store = bytes.NewReader(whole), strings.NewReader("short")
	if err := Write(io.Discard, s, 1<<20); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a filestore that shrinks: %v", err)
	}
}

// FuzzWrite: whatever a sentry tells, a layer has only names below its root, once each,
// in folders of its own.
func FuzzWrite(f *testing.F) {
	for _, files := range [][]file{
		{dir(root), dir("./d/"), regular("./d/f", 5000, [3]uint64{0, 8192, 0}), gone("./d/g"), link("./a", "./d/f")},
		{link("./a", "./b"), regular("./b", 1, [3]uint64{0, 4096, 0})},
	} {
		tree, err := io.ReadAll(source(f, files).Tree)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(tree)
	}
	f.Fuzz(func(t *testing.T, tree []byte) {
		var layer bytes.Buffer
		if Write(&layer, Source{bytes.NewReader(tree), strings.NewReader(store), int64(len(store))}, 1<<20) != nil {
			return
		}
		seen := map[string]byte{}
		in := tar.NewReader(&layer)
		for {
			h, err := in.Next()
			if errors.Is(err, io.EOF) {
				return
			} else if err != nil {
				t.Fatal(err)
			}
			name := strings.TrimSuffix(h.Name, "/")
			at := strings.LastIndexByte(name, '/')
			_, twice := seen[name]
			if twice || strings.HasPrefix(name, "/") || slices.Contains(strings.Split(name, "/"), "..") || at >= 0 && seen[name[:at]] != tar.TypeDir {
				t.Errorf("%q", h.Name)
			}
			if h.Typeflag == tar.TypeLink && seen[h.Linkname] == 0 {
				t.Errorf("%q is linked to %q, which comes later", h.Name, h.Linkname)
			}
			seen[name] = h.Typeflag
		}
	})
}

// TestSparseIndex: an archive may call a file larger than what it takes there, and that
// much would be asked of memory.
func TestSparseIndex(t *testing.T) {
	const real = sizeBytes + extentBytes<<40
	content := make([]byte, 512+sizeBytes)
	copy(content, "1\n0\n8\n")
	binary.LittleEndian.PutUint64(content[512:], 4)
	tree := source(t, []file{{tar.Header{Typeflag: tar.TypeReg, Name: "./f", ModTime: then, Size: int64(len(content)), PAXRecords: map[string]string{
		"XNU.sparse.major": "1", "XNU.sparse.minor": "0", "XNU.sparse.name": "./f", "XNU.sparse.realsize": fmt.Sprint(real),
	}}, content}})
	raw, err := io.ReadAll(tree.Tree)
	if err != nil {
		t.Fatal(err)
	}
	tree.Tree = bytes.NewReader(bytes.ReplaceAll(raw, []byte("XNU.sparse"), []byte("GNU.sparse"))) // Go's writer makes none
	if err := Write(io.Discard, tree, 1<<20); !errdefs.IsInvalidArgument(err) {
		t.Errorf("%v; want an ErrInvalidArgument", err)
	}
}
