package tree

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// outline is a tree in words.
func outline(t *testing.T, root string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == root {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, name)
		fmt.Fprintf(&b, "%s %v", rel, info.Mode())
		if info.Mode().IsRegular() {
			data, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " %s", data)
		}
		if info.Mode()&fs.ModeSymlink != 0 {
			target, err := os.Readlink(name)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " -> %s", target)
		} else {
			fmt.Fprintf(&b, " %d", info.ModTime().Unix())
		}
		b.WriteString("\n")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

var then = time.Unix(1_000_000_000, 0)

// arrive unpacks an archive as dir/name.
func arrive(t *testing.T, archive io.Reader, dir, name string, limits Limits) (Summary, error) {
	t.Helper()
	a, err := Arrive(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
		if left, err := filepath.Glob(filepath.Join(dir, TempPrefix+"*")); err != nil || len(left) > 0 {
			t.Errorf("left: %v, %v", left, err)
		}
	}()
	s, err := a.Unpack(archive, limits)
	if err != nil {
		return s, err
	}
	return s, a.Put(name)
}

func TestThereAndBack(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	at := func(name string) string { return filepath.Join(from, "top", name) }
	must(os.MkdirAll(at("inner"), 0o755))
	must(os.WriteFile(at("inner/f"), []byte("text"), 0o640))
	must(os.WriteFile(at(strings.Repeat("n", 255)), nil, 0o600))
	must(os.WriteFile(at("-a\nb *"), []byte("x"), 0o600))
	must(os.Symlink("/etc/passwd", at("out")))
	must(os.Symlink("inner", at("in")))
	must(os.Link(at("inner/f"), at("hard")))
	must(os.Chmod(at("hard"), 0o4751))
	must(syscall.Mkfifo(at("fifo"), 0o600))
	must(os.Mkdir(at("closed"), 0o1555))
	must(os.Chmod(at("closed"), 0o555|fs.ModeSticky))
	for _, name := range []string{"hard", "-a\nb *", strings.Repeat("n", 255), "closed", "inner", ""} {
		must(os.Chtimes(at(name), then, then))
	}
	root, err := os.OpenRoot(from)
	must(err)
	defer root.Close()
	var archive bytes.Buffer
	packed, err := Pack(&archive, root, "top", "named")
	must(err)
	if want := (Summary{Top: "named", Entries: 9, Bytes: 9, Skipped: 1}); packed != want {
		t.Errorf("packed %+v, want %+v", packed, want)
	}
	unpacked, err := arrive(t, &archive, to, "as", Unbounded())
	must(err)
	if want := (Summary{Top: "named", Entries: 9, Bytes: 9}); unpacked != want {
		t.Errorf("unpacked %+v, want %+v", unpacked, want)
	}
	want := `as drwxr-xr-x 1000000000
as/-a
b * -rw------- x 1000000000
as/closed dtr-xr-xr-x 1000000000
as/hard -rwxr-x--x text 1000000000
as/in Lrwxrwxrwx -> inner
as/inner drwxr-xr-x 1000000000
as/inner/f -rwxr-x--x text 1000000000
as/` + strings.Repeat("n", 255) + ` -rw-------  1000000000
as/out Lrwxrwxrwx -> /etc/passwd
`
	if diff := cmp.Diff(want, outline(t, to)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// entry of a hand-made archive.
type entry struct {
	kind       byte
	name, link string
	data       string
}

func archiveOf(t *testing.T, entries ...entry) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Typeflag: e.kind, Name: e.name, Linkname: e.link, Size: int64(len(e.data)), Mode: 0o755}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

func TestHostileArchives(t *testing.T) {
	top := entry{kind: tar.TypeDir, name: "a/"}
	for name, tc := range map[string]struct {
		entries []entry
		limits  Limits
		want    string
	}{
		"empty":                  {want: "it is empty"},
		"absolute":               {entries: []entry{{kind: tar.TypeReg, name: "/x"}}, want: "absolute"},
		"up":                     {entries: []entry{{kind: tar.TypeReg, name: "../x"}}, want: "leads out"},
		"up inside":              {entries: []entry{top, {kind: tar.TypeReg, name: "a/b/../../../x"}}, want: "leads out"},
		"up and back":            {entries: []entry{top, {kind: tar.TypeReg, name: "a/../a/x"}}, want: "leads out"},
		"two tops":               {entries: []entry{top, {kind: tar.TypeDir, name: "b/"}}, want: "several top elements"},
		"a link, then through":   {entries: []entry{top, {kind: tar.TypeSymlink, name: "a/l", link: "/tmp"}, {kind: tar.TypeReg, name: "a/l/x"}}, want: "comes twice"},
		"through, then a link":   {entries: []entry{top, {kind: tar.TypeReg, name: "a/l/x"}, {kind: tar.TypeSymlink, name: "a/l", link: "/tmp"}}, want: "comes twice"},
		"the top is a link":      {entries: []entry{{kind: tar.TypeSymlink, name: "a", link: "/tmp"}, {kind: tar.TypeReg, name: "a/x"}}, want: "comes twice"},
		"a link twice":           {entries: []entry{top, {kind: tar.TypeSymlink, name: "a/l", link: "x"}, {kind: tar.TypeSymlink, name: "a/l", link: "y"}}, want: "comes twice"},
		"a file twice":           {entries: []entry{top, {kind: tar.TypeReg, name: "a/f"}, {kind: tar.TypeReg, name: "a/f"}}, want: "comes twice"},
		"a folder under a file":  {entries: []entry{top, {kind: tar.TypeReg, name: "a/f"}, {kind: tar.TypeDir, name: "a/f/g/"}}, want: "comes twice"},
		"a hard link out":        {entries: []entry{top, {kind: tar.TypeLink, name: "a/l", link: "../x"}}, want: "leads out"},
		"a hard link, absolute":  {entries: []entry{top, {kind: tar.TypeLink, name: "a/l", link: "/etc/passwd"}}, want: "absolute"},
		"a hard link to another": {entries: []entry{top, {kind: tar.TypeLink, name: "a/l", link: "b/x"}}, want: "several top elements"},
		"a hard link to a link":  {entries: []entry{top, {kind: tar.TypeSymlink, name: "a/l", link: "/etc/passwd"}, {kind: tar.TypeLink, name: "a/m", link: "a/l"}}, want: "no such file"},
		"a device":               {entries: []entry{top, {kind: tar.TypeChar, name: "a/null"}}, want: "neither a file"},
		"a block device":         {entries: []entry{top, {kind: tar.TypeBlock, name: "a/sda"}}, want: "neither a file"},
		"a FIFO":                 {entries: []entry{top, {kind: tar.TypeFifo, name: "a/f"}}, want: "neither a file"},
		"a link to nothing":      {entries: []entry{top, {kind: tar.TypeSymlink, name: "a/l"}}, want: "says nothing"},
		"a long link":            {entries: []entry{top, {kind: tar.TypeSymlink, name: "a/l", link: strings.Repeat("x", 5000)}}, want: "too much"},
		"a long name":            {entries: []entry{top, {kind: tar.TypeReg, name: "a/" + strings.Repeat("x", 5000)}}, want: "too long"},
		"a deep name":            {entries: []entry{top, {kind: tar.TypeReg, name: strings.Repeat("a/", 600) + "f"}}, want: "too long"},
		"many entries":           {entries: []entry{top, top, top}, limits: Limits{Entries: 2, Bytes: 9, Names: 1 << 20}, want: "more than 2 entries"},
		"many bytes":             {entries: []entry{top, {kind: tar.TypeReg, name: "a/f", data: "0123456789"}}, limits: Limits{Entries: 9, Bytes: 9, Names: 1 << 20}, want: "more than 9 bytes"},
		"many names":             {entries: []entry{top, {kind: tar.TypeDir, name: "a/b/"}}, limits: Limits{Entries: 9, Bytes: 9, Names: 200}, want: "too much memory"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			limits := tc.limits
			if limits == (Limits{}) {
				limits = Unbounded()
			}
			_, err := arrive(t, archiveOf(t, tc.entries...), dir, "as", limits)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v; want an error with %q", err, tc.want)
			}
			if got := outline(t, dir); got != "" {
				t.Errorf("made:\n%s", got)
			}
		})
	}
}

// TestTruncated: every archive that is cut anywhere is an error and makes nothing.
// TestSumOfSizes: a size that is a claim cannot make the sum of sizes small again.
func TestSumOfSizes(t *testing.T) {
	archive := archiveOf(t, entry{kind: tar.TypeDir, name: "a/"}, entry{kind: tar.TypeReg, name: "a/f", data: strings.Repeat("x", 1025)})
	archive.Truncate(archive.Len() - 1024) // its end
	w := tar.NewWriter(archive)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "a/g", Size: math.MaxInt64 - 1024, Mode: 0o644, Format: tar.FormatPAX}); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	endless := io.MultiReader(archive, io.LimitReader(zeros{}, 64<<20))
	_, err := arrive(t, endless, dir, "as", Limits{Entries: 9, Bytes: 2000, Names: 1 << 20})
	if err == nil || !strings.Contains(err.Error(), "more than 2000 bytes") {
		t.Errorf("%v; want an error", err)
	}
	if got := outline(t, dir); got != "" {
		t.Errorf("made:\n%s", got)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func TestTruncated(t *testing.T) {
	whole := archiveOf(t, entry{kind: tar.TypeDir, name: "a/"}, entry{kind: tar.TypeReg, name: "a/f", data: strings.Repeat("\x00", 2048)}).Bytes()
	for size := range len(whole) - 512 {
		if size%64 != 0 {
			continue
		}
		dir := t.TempDir()
		if _, err := arrive(t, bytes.NewReader(whole[:size]), dir, "as", Unbounded()); !errors.Is(err, ErrArchive) {
			t.Errorf("%d of %d bytes: %v", size, len(whole), err)
		}
		if got := outline(t, dir); got != "" {
			t.Errorf("%d of %d bytes made:\n%s", size, len(whole), got)
		}
	}
}

// TestWithoutEntryForFolders, and with a top called ".", as tar -c . writes it.
func TestTops(t *testing.T) {
	for name, entries := range map[string][]entry{
		"no folders": {{kind: tar.TypeReg, name: "a/b/f", data: "x"}},
		"dots":       {{kind: tar.TypeDir, name: "./"}, {kind: tar.TypeDir, name: "./b/"}, {kind: tar.TypeReg, name: "./b/f", data: "x"}},
		"dot names":  {{kind: tar.TypeDir, name: "./a/"}, {kind: tar.TypeReg, name: "./a/b/f", data: "x"}},
	} {
		dir := t.TempDir()
		if _, err := arrive(t, archiveOf(t, entries...), dir, "as", Unbounded()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if data, err := os.ReadFile(filepath.Join(dir, "as/b/f")); err != nil || string(data) != "x" {
			t.Errorf("%s: %q, %v\n%s", name, data, err, outline(t, dir))
		}
	}
}

// TestPlaces: what is there is refused, replaced, or written over.
func TestPlaces(t *testing.T) {
	file := entry{kind: tar.TypeReg, name: "a", data: "new"}
	folder := []entry{{kind: tar.TypeDir, name: "a/"}, {kind: tar.TypeReg, name: "a/f", data: "new"}}
	for name, tc := range map[string]struct {
		entries []entry
		there   string // what is there: nothing, file, folder, link
		put     func(*Arrival, string) error
		is      error
		want    string // what p is then
	}{
		"put a file":               {[]entry{file}, "nothing", (*Arrival).Put, nil, "new"},
		"put a file on one":        {[]entry{file}, "file", (*Arrival).Put, fs.ErrExist, "old"},
		"put a folder on one":      {folder, "folder", (*Arrival).Put, fs.ErrExist, "folder"},
		"a file over one":          {[]entry{file}, "file", (*Arrival).Over, nil, "new"},
		"a file over a link":       {[]entry{file}, "link", (*Arrival).Over, nil, "new"},
		"a file over a folder":     {[]entry{file}, "folder", (*Arrival).Over, syscall.EISDIR, "folder"},
		"replace nothing":          {folder, "nothing", (*Arrival).Replace, nil, "new folder"},
		"replace a folder":         {folder, "folder", (*Arrival).Replace, nil, "new folder"},
		"replace a file":           {folder, "file", (*Arrival).Replace, nil, "new folder"},
		"replace a link":           {folder, "link", (*Arrival).Replace, nil, "new folder"},
		"a folder by a file":       {[]entry{file}, "folder", (*Arrival).Replace, nil, "new"},
		"swap a folder":            {folder, "folder", (*Arrival).swap, nil, "new folder"},
		"swap a file for a folder": {folder, "file", (*Arrival).swap, nil, "new folder"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			p := filepath.Join(dir, "p")
			var err error
			switch tc.there {
			case "file":
				err = os.WriteFile(p, []byte("old"), 0o600)
			case "folder":
				err = errors.Join(os.MkdirAll(filepath.Join(p, "d"), 0o700), os.WriteFile(filepath.Join(p, "d", "f"), nil, 0o600), os.Chmod(filepath.Join(p, "d"), 0o500))
			case "link":
				err = os.Symlink("/etc/passwd", p)
			}
			if err != nil {
				t.Fatal(err)
			}
			a, err := Arrive(dir)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := a.Unpack(archiveOf(t, tc.entries...), Unbounded()); err != nil {
				t.Fatal(err)
			}
			if err := tc.put(a, "p"); !errors.Is(err, tc.is) {
				t.Errorf("%v, want %v", err, tc.is)
			}
			if err := a.Close(); err != nil {
				t.Error(err)
			}
			got := "folder"
			if data, err := os.ReadFile(p); err == nil {
				got = string(data)
			} else if data, err := os.ReadFile(filepath.Join(p, "f")); err == nil {
				got = string(data) + " folder"
			}
			if got != tc.want {
				t.Errorf("there is %s, want %s", got, tc.want)
			}
			if names, err := os.ReadDir(dir); err != nil || len(names) != 1 {
				t.Errorf("the folder holds %v, %v", names, err)
			}
		})
	}
	a, err := Arrive(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	for _, name := range []string{"", ".", "..", "a/b", "/etc/x", "../x"} {
		for _, put := range []func(*Arrival, string) error{(*Arrival).Put, (*Arrival).Over, (*Arrival).Replace} {
			if err := put(a, name); !errors.Is(err, fs.ErrInvalid) {
				t.Errorf("%q: %v", name, err)
			}
		}
	}
}

// TestSymlinkSwaps: somebody keeps exchanging a folder of the waiting tree for a link
// that leads out, while archives are unpacked there. Nothing ever gets out.
func TestSymlinkSwaps(t *testing.T) {
	outside := t.TempDir()
	dir := t.TempDir()
	archive := archiveOf(t,
		entry{kind: tar.TypeDir, name: "a/"}, entry{kind: tar.TypeDir, name: "a/d/"},
		entry{kind: tar.TypeReg, name: "a/d/evil", data: "x"}, entry{kind: tar.TypeSymlink, name: "a/d/l", link: "x"},
		entry{kind: tar.TypeDir, name: "a/d/e/"}, entry{kind: tar.TypeLink, name: "a/d/hard", link: "a/d/evil"},
	).Bytes()
	done := make(chan struct{})
	swapped := make(chan int)
	go func() {
		n := 0
		for {
			select {
			case <-done:
				swapped <- n
				return
			default:
			}
			found, _ := filepath.Glob(filepath.Join(dir, TempPrefix+"*", arrived, "d"))
			for _, d := range found {
				if os.Rename(d, d+".away") == nil && os.Symlink(outside, d) == nil {
					n++
				}
			}
		}
	}()
	rounds := 300
	for range rounds {
		a, err := Arrive(dir)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = a.Unpack(bytes.NewReader(archive), Unbounded()) // it may well fail
		_ = a.Close()
	}
	close(done)
	if n := <-swapped; n < 10 {
		t.Errorf("only %d swaps in %d rounds: this tries nothing", n, rounds)
	}
	if got := outline(t, outside); got != "" {
		t.Errorf("outside there is now:\n%s", got)
	}
}

// TestPackSwaps: likewise, when a tree is packed. Nothing of the outside is in it.
func TestPackSwaps(t *testing.T) {
	outside, dir := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "f"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	inner, away, link := filepath.Join(dir, "d"), filepath.Join(dir, "away"), filepath.Join(dir, "link")
	err := errors.Join(os.Mkdir(inner, 0o700), os.WriteFile(filepath.Join(inner, "f"), []byte("public"), 0o600), os.Symlink(outside, link))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-done:
				return
			default:
			}
			_ = os.Rename(inner, away)
			_ = os.Rename(link, inner)
			_ = os.Rename(inner, link)
			_ = os.Rename(away, inner)
		}
	}()
	for range 300 {
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		var archive bytes.Buffer
		_, _ = Pack(&archive, root, ".", "top") // it may well fail
		_ = root.Close()
		if bytes.Contains(archive.Bytes(), []byte("secret")) {
			t.Fatal("the archive holds what is outside")
		}
	}
	close(done)
	<-stopped
}

func TestPackLeavesOutTheKernels(t *testing.T) {
	root, err := os.OpenRoot("/")
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if s, err := Pack(io.Discard, root, "proc", "proc"); err != nil || s.Entries != 1 {
		t.Errorf("%+v, %v; want the folder alone", s, err)
	}
}

func FuzzUnpack(f *testing.F) {
	var seed bytes.Buffer
	w := tar.NewWriter(&seed)
	_ = w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "a/", Mode: 0o700})
	_ = w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: "a/l", Linkname: "/tmp"})
	_ = w.Close()
	f.Add(seed.Bytes())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		outer := t.TempDir()
		dir := filepath.Join(outer, "dir")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		a, err := Arrive(dir)
		if err != nil {
			t.Fatal(err)
		}
		_, err = a.Unpack(bytes.NewReader(data), Limits{Entries: 100, Bytes: 1 << 20, Names: 1 << 16})
		if err == nil {
			err = a.Put("as")
		}
		if cerr := a.Close(); cerr != nil {
			t.Fatal(cerr)
		}
		names, _ := os.ReadDir(dir)
		if err != nil && len(names) > 0 || len(names) > 1 {
			t.Fatalf("%v, and there is %v", err, names)
		}
		if names, _ = os.ReadDir(outer); len(names) != 1 {
			t.Fatalf("outside there is %v", names)
		}
	})
}
