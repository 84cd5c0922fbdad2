package ldso

import (
	"bytes"
	"debug/elf"
	"errors"
	"strings"
	"testing"

	"brig/hooks/operation/ldso/elftest"
)

// FuzzInspect: no file is anything but a library with a name that can be a link's.
func FuzzInspect(f *testing.F) {
	f.Add(elftest.Library(elf.EM_X86_64, "libgood.so.1"))
	f.Add(elftest.Library(elf.EM_AARCH64, "../../evil"))
	f.Add([]byte("\x7fELF\x01\x01\x01"))
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := Inspect(bytes.NewReader(data))
		if err != nil && !errors.Is(err, ErrNoLibrary) {
			t.Fatalf("an error of the disk's, without a disk: %v", err)
		}
		if err == nil && l.Soname != "" && !FileName(l.Soname) || err == nil && l.Flags == 0 {
			t.Fatalf("got %+v", l)
		}
	})
}

// FuzzParseConf: every line leads from the root on, and what is read once more is the same.
func FuzzParseConf(f *testing.F) {
	f.Add([]byte("include /etc/ld.so.conf.d/*.conf\n/usr/lib # x\nhwcap 0 a\n"))
	f.Add([]byte("include a b\tc\n//\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var again strings.Builder
		lines := ParseConf(data)
		for _, l := range lines {
			if l.Path == "" || strings.ContainsAny(l.Path, "\x00\n#") || !l.Include && l.Path[0] != '/' {
				t.Fatalf("line %+v", l)
			}
			if l.Include {
				again.WriteString("include ")
			}
			again.WriteString(l.Path + "\n")
		}
		if second := ParseConf([]byte(again.String())); len(second) != len(lines) {
			t.Fatalf("%q is read as %+v, then as %+v", data, lines, second)
		}
	})
}

// FuzzEncode: what is put in is found, whatever the names are.
func FuzzEncode(f *testing.F) {
	f.Add("liba.so.1 libb.so liba.so.10 liba.so.2 lib1.so")
	f.Add("lib99999999999.so lib2147483648.so")
	f.Fuzz(func(t *testing.T, text string) {
		var entries []Entry
		for _, name := range strings.Fields(text) {
			if !FileName(name) || len(entries) == 100 {
				return
			}
			for i := range name { // numbers that wrap have no order
				if _, end := number(name, i); end-i > 9 {
					return
				}
			}
			entries = append(entries, Entry{name, "/lib/" + name, X86_64, ""})
		}
		cache := Encode(entries)
		for _, e := range entries {
			if got := search(cache, e.Name, X86_64); Compare(strings.TrimPrefix(got, "/lib/"), e.Name) != 0 {
				t.Fatalf("%q is found at %q", e.Name, got)
			}
		}
	})
}
