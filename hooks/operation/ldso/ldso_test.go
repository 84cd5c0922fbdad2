package ldso

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"brig/hooks/operation/ldso/elftest"
)

func TestCompare(t *testing.T) {
	// Each is less than the next.
	names := []string{"", "ld-linux.so.2", "liba.so.1", "liba.so.2", "liba.so.10", "liba.so.10.1", "liba1.so", "libab.so", "libb.so"}
	// Digits come after everything else, "liba1.so" after "libab.so" too.
	names[6], names[7] = names[7], names[6]
	for i, a := range names {
		for j, b := range names {
			if got := sign(Compare(a, b)); got != sign(i-j) {
				t.Errorf("Compare(%q, %q) is %d, want %d", a, b, got, sign(i-j))
			}
		}
	}
	if Compare("lib.so.01", "lib.so.1") != 0 {
		t.Error("01 is not 1")
	}
}

func sign(n int) int { return min(max(n, -1), 1) }

func TestParseConf(t *testing.T) {
	const text = `# comment
/usr/local/lib  # behind it
	/opt/a///
/
include a.conf	/b/*.conf
INCLUDE c.conf
included
hwcap 0 nosegneg
relative/dir
/with space
include
/last`
	want := []Line{{Path: "/usr/local/lib"}, {Path: "/opt/a"}, {Path: "/"}, {true, "a.conf"}, {true, "/b/*.conf"}, {true, "c.conf"},
		{Path: "/with space"}, {Path: "/last"}}
	if diff := cmp.Diff(want, ParseConf([]byte(text))); diff != "" {
		t.Error(diff)
	}
	if got := ParseConf([]byte("/a\x00b\n/c")); len(got) != 1 || got[0].Path != "/c" {
		t.Errorf("a zero byte: %v", got)
	}
}

func TestInspect(t *testing.T) {
	good := elftest.Library(elf.EM_X86_64, "libgood.so.1")
	for _, c := range []struct {
		name string
		data []byte
		want Library
		err  error
	}{
		{"x86-64", good, Library{"libgood.so.1", X86_64}, nil},
		{"aarch64", elftest.Library(elf.EM_AARCH64, "libgood.so.1"), Library{"libgood.so.1", AArch64}, nil},
		{"another machine", elftest.Library(elf.EM_RISCV, "libgood.so.1"), Library{}, ErrNoLibrary},
		{"no soname", elftest.Library(elf.EM_X86_64, ""), Library{"", X86_64}, nil},
		{"a way out", elftest.Library(elf.EM_X86_64, "../libgood.so.1"), Library{}, ErrNoLibrary},
		{"up", elftest.Library(elf.EM_X86_64, ".."), Library{}, ErrNoLibrary},
		{"too long", elftest.Library(elf.EM_X86_64, string(bytes.Repeat([]byte("a"), 256))), Library{}, ErrNoLibrary},
		{"a program", edited(good, 16, 2), Library{}, ErrNoLibrary},
		{"no end of the name", good[:len(good)-1], Library{}, ErrNoLibrary},
		{"cut", good[:100], Library{}, ErrNoLibrary},
		{"a script", []byte("/* GNU ld script */\nGROUP ( libc.so.6 )\n"), Library{}, ErrNoLibrary},
		{"nothing", nil, Library{}, ErrNoLibrary},
	} {
		got, err := Inspect(bytes.NewReader(c.data))
		if c.err == nil && got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s: %v, %v, want %v, %v", c.name, got, err, c.want, c.err)
		}
	}
}

func edited(data []byte, at int, b byte) []byte {
	data = slices.Clone(data)
	data[at] = b
	return data
}

// counted is a file of which nothing is zero and that never ends.
type counted struct {
	head []byte
	read int
}

func (c *counted) ReadAt(p []byte, off int64) (int, error) {
	c.read += len(p)
	for i := range p {
		p[i] = 0xff
		if off+int64(i) < int64(len(c.head)) {
			p[i] = c.head[off+int64(i)]
		}
	}
	return len(p), nil
}

// TestInspectIsBounded: whatever sizes a file claims.
func TestInspectIsBounded(t *testing.T) {
	head := elftest.Library(elf.EM_X86_64, "libgood.so.1")
	for at := 16; at < 64+2*56; at += 2 {
		c := &counted{head: slices.Clone(head)}
		binary.LittleEndian.PutUint16(c.head[at:], 0xffff)
		_, err := Inspect(c)
		if err != nil && !errors.Is(err, ErrNoLibrary) {
			t.Errorf("byte %d: %v", at, err)
		}
		if c.read > 128<<10 {
			t.Errorf("byte %d: %d bytes are read", at, c.read)
		}
	}
}

func TestABadDisk(t *testing.T) {
	bad := errors.New("bad")
	head := elftest.Library(elf.EM_X86_64, "libgood.so.1")
	if _, err := Inspect(failing{bytes.NewReader(head), int64(len(head) - 20), bad}); !errors.Is(err, bad) {
		t.Errorf("got %v, want the disk's error", err)
	}
}

type failing struct {
	io.ReaderAt
	from int64
	err  error
}

func (f failing) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > f.from {
		return 0, f.err
	}
	return f.ReaderAt.ReadAt(p, off)
}

// TestEncode: what is encoded is found, by the linker's own search, and the order that the
// entries came in changes nothing but which of two equals is found.
func TestEncode(t *testing.T) {
	var entries []Entry
	for _, name := range []string{"libz.so.1", "liba.so.2", "liba.so.10", "libc.so.6", "ld-linux-x86-64.so.2", "lib1.so", "lib.so"} {
		entries = append(entries, Entry{name, "/usr/lib/" + name, X86_64, ""}, Entry{name, "/usr/lib32/" + name, I386, ""})
	}
	entries = append(entries, Entry{"libother.so.1", "/opt/libother.so.1.2", X86_64, ""}, Entry{"libz.so.1", "/late/libz.so.1", X86_64, ""})
	first := Encode(entries)
	for _, e := range entries[:len(entries)-1] {
		if got := search(first, e.Name, e.Flags); got != e.Path {
			t.Errorf("%s is found at %q, want %q", e.Name, got, e.Path)
		}
	}
	if got := search(first, "libnone.so.1", X86_64); got != "" {
		t.Errorf("libnone.so.1 is found at %q", got)
	}
	last := entries[len(entries)-1]
	for range 100 {
		entries = entries[:len(entries)-1]
		rand.Shuffle(len(entries), func(i, j int) { entries[i], entries[j] = entries[j], entries[i] })
		if entries = append(entries, last); !bytes.Equal(first, Encode(entries)) {
			t.Fatal("another order, other bytes")
		}
	}
	if got := Encode(nil); len(got) != headerBytes+8+sectionBytes+len(generator) {
		t.Errorf("an empty cache has %d bytes", len(got))
	}
}

// search does what ld.so does: bisect, then go back to the first of equal names.
func search(cache []byte, name string, flags Flags) string {
	le := binary.LittleEndian
	text := func(at uint32) string {
		s, _, _ := bytes.Cut(cache[at:], []byte{0})
		return string(s)
	}
	entry := func(i int) []byte { return cache[headerBytes+entryBytes*i:] }
	n := int(le.Uint32(cache[len(magic):]))
	left, right := 0, n-1
	for left <= right {
		middle := (left + right) / 2
		c := Compare(name, text(le.Uint32(entry(middle)[4:])))
		switch {
		case c == 0:
			for middle > 0 && Compare(name, text(le.Uint32(entry(middle - 1)[4:]))) == 0 {
				middle--
			}
			for ; middle < n && Compare(name, text(le.Uint32(entry(middle)[4:]))) == 0; middle++ {
				if Flags(le.Uint32(entry(middle))) == flags {
					return text(le.Uint32(entry(middle)[8:]))
				}
			}
			return ""
		case c < 0:
			left = middle + 1
		default:
			right = middle - 1
		}
	}
	return ""
}
