package command_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	brigv1 "brig/nodeagent/api/brig/v1"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
)

const (
	aFile   = brigv1.FileType_FILE_TYPE_REGULAR
	aFolder = brigv1.FileType_FILE_TYPE_DIRECTORY
	aLink   = brigv1.FileType_FILE_TYPE_SYMLINK
)

// files is a node with one sandbox, whose files are f.
func files(t *testing.T, f *fakeFiles) (sandbox, socket string) {
	t.Helper()
	n := &fakeNode{files: f}
	f.node = n
	socket = n.start(t)
	return create(t, socket, "img"), socket
}

// create makes a sandbox and returns its id.
func create(t *testing.T, socket, image string) string {
	t.Helper()
	r := brig(t, socket, "", "create", image)
	if r.Status != 0 {
		t.Fatal(r)
	}
	lines := strings.Split(strings.TrimSpace(r.Out), "\n")
	return lines[len(lines)-1]
}

func archive(t *testing.T, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		data := h.Uname // the header's spare place for what is in a file
		h.Uname, h.Size = "", int64(len(data))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func folder(name string) tar.Header {
	return tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755}
}

func file(name, data string) tar.Header {
	return tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o4755, Uname: data}
}

// TestCopyFromHostileSandbox: whatever a sandbox sends, nothing is made but what was asked
// for, where it was asked for, and mostly nothing at all.
func TestCopyFromHostileSandbox(t *testing.T) {
	link := tar.Header{Typeflag: tar.TypeSymlink, Name: "d/l", Linkname: "../.."}
	for name, tc := range map[string]struct {
		info  *brigv1.FileInfo
		data  []byte
		cut   bool
		flags []string
		from  string
		want  string
	}{
		"up":               {info: &brigv1.FileInfo{Type: aFolder}, data: archive(t, folder("d/"), file("d/../../evil", "x")), want: "leads out"},
		"absolute":         {info: &brigv1.FileInfo{Type: aFile}, data: archive(t, file("/evil", "x")), want: "absolute"},
		"through a link":   {info: &brigv1.FileInfo{Type: aFolder}, data: archive(t, folder("d/"), link, file("d/l/evil", "x")), want: "twice"},
		"a device":         {info: &brigv1.FileInfo{Type: aFile}, data: archive(t, tar.Header{Typeflag: tar.TypeChar, Name: "null"}), want: "neither"},
		"something else":   {info: &brigv1.FileInfo{Type: aFile}, data: archive(t, folder("d/"), file("d/evil", "x")), want: "something else"},
		"cut":              {info: &brigv1.FileInfo{Type: aFolder}, data: archive(t, folder("d/"), file("d/f", "x")), cut: true, want: "broke off"},
		"half":             {info: &brigv1.FileInfo{Type: aFolder}, data: archive(t, folder("d/"), file("d/f", "x"))[:512], want: "breaks off"},
		"no archive":       {info: &brigv1.FileInfo{Type: aFolder}, data: bytes.Repeat([]byte("x"), 2048), want: "not acceptable"},
		"nothing":          {info: &brigv1.FileInfo{Type: aFile}, want: "breaks off"},
		"too much":         {info: &brigv1.FileInfo{Type: aFile}, data: archive(t, file("f", strings.Repeat("x", 2000))), flags: []string{"--max-size", "1K"}, want: "more than 1024 bytes"},
		"a name of its":    {info: &brigv1.FileInfo{Type: aFile, Name: "../evil"}, data: archive(t, file("f", "x")), from: ".", want: "no name"},
		"an empty name":    {info: &brigv1.FileInfo{Type: aFile}, data: archive(t, file("f", "x")), from: "/", want: "no name"},
		"the parent":       {info: &brigv1.FileInfo{Type: aFile, Name: ".."}, data: archive(t, file("f", "x")), from: "a/..", want: "no name"},
		"endless trailing": {info: &brigv1.FileInfo{Type: aFile}, data: append(archive(t, file("f", "x")), make([]byte, 2<<20)...), want: "follow its end"},
	} {
		t.Run(name, func(t *testing.T) {
			sandbox, socket := files(t, &fakeFiles{info: tc.info, data: tc.data, cut: tc.cut})
			outer := t.TempDir()
			dest := filepath.Join(outer, "a", "b")
			if err := os.MkdirAll(dest, 0o755); err != nil {
				t.Fatal(err)
			}
			if tc.from == "" {
				tc.from = "/w/x"
			}
			r := brig(t, socket, "", append(append([]string{"cp"}, tc.flags...), sandbox+":"+tc.from, dest)...)
			if r.Status != 1 || !strings.Contains(r.Err, tc.want) {
				t.Errorf("%+v; want a failure with %q", r, tc.want)
			}
			if got := names(t, outer); got != "a a/b" {
				t.Errorf("there is now: %s", got)
			}
		})
	}
}

// names is every path below dir.
func names(t *testing.T, dir string) string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(p string, _ os.DirEntry, err error) error {
		if rel, _ := filepath.Rel(dir, p); rel != "." {
			all = append(all, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(all, " ")
}

// TestCopyOut: the copy is called what the user called it, and is no setuid program.
func TestCopyOut(t *testing.T) {
	f := &fakeFiles{info: &brigv1.FileInfo{Type: aFolder, Name: "told"}, data: archive(t, folder("sent/"), file("sent/f", "text"))}
	sandbox, socket := files(t, f)
	dir := t.TempDir()
	check(t, brig(t, socket, "", "cp", sandbox+":/w/typed/", dir), result{Err: "copying " + sandbox + ":/w/typed/\n"})
	info, err := os.Stat(filepath.Join(dir, "typed", "f"))
	if err != nil || info.Mode() != 0o755 {
		t.Errorf("%v, %v; there is %s", info, err, names(t, dir))
	}
	r := brig(t, socket, "", "cp", sandbox+":/w/typed", dir)
	if r.Status != 1 || !strings.Contains(r.Err, "--replace") {
		t.Errorf("%+v", r)
	}
	r = brig(t, socket, "", "cp", "--json", "--replace", sandbox+":/w/typed", dir)
	if r.Status != 0 || !strings.Contains(r.Out, `"bytes": 4`) {
		t.Errorf("%+v", r)
	}
	if r := brig(t, socket, "", "cp", sandbox+":/w", "-"); r.Status != 0 || r.Out != string(f.data) {
		t.Errorf("%d bytes on stdout, want %d", len(r.Out), len(f.data))
	}
}

// TestCopyIn: what goes to brigd, by what is there.
func TestCopyIn(t *testing.T) {
	dir := t.TempDir()
	err := errors.Join(
		os.WriteFile(filepath.Join(dir, "f"), []byte("text"), 0o640),
		os.Mkdir(filepath.Join(dir, "d"), 0o755), os.WriteFile(filepath.Join(dir, "d", "inner"), []byte("x"), 0o600),
		os.Symlink("f", filepath.Join(dir, "l")),
	)
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]brigv1.FileType{
		"/": aFolder, "/folder": aFolder, "/folder/d": aFolder, "/file": aFile, "/link": aLink, "/link/.": aFolder, "/dead": aLink,
	}
	for _, tc := range []struct {
		args, in string
		want     *brigv1.FilesWriteStart
		data     string // of a file; else names in the archive
	}{
		{args: "f /new", want: &brigv1.FilesWriteStart{Path: "/new", Mode: 0o640}, data: "text"},
		{args: "f /folder", want: &brigv1.FilesWriteStart{Path: "/folder/f", Mode: 0o640}, data: "text"},
		{args: "f /link", want: &brigv1.FilesWriteStart{Path: "/link/f", Mode: 0o640}, data: "text"},
		{args: "f /dead", want: &brigv1.FilesWriteStart{Path: "/dead", Mode: 0o640}, data: "text"},
		{args: "f /file", want: &brigv1.FilesWriteStart{Path: "/file", Mode: 0o640}, data: "text"},
		{args: "d /new", want: &brigv1.FilesWriteStart{Path: "/new", Archive: true}, data: "d/ d/inner"},
		{args: "--replace d /folder", want: &brigv1.FilesWriteStart{Path: "/folder/d", Archive: true, Replace: true}, data: "d/ d/inner"},
		{args: "l /new", want: &brigv1.FilesWriteStart{Path: "/new", Archive: true, Replace: true}, data: "l"},
		{args: "- /folder", in: string(archive(t, folder("x/"), file("x/y", ""))), want: &brigv1.FilesWriteStart{Path: "/folder/x", Archive: true}, data: "x/ x/y"},
	} {
		t.Run(tc.args, func(t *testing.T) {
			f := &fakeFiles{there: there}
			sandbox, socket := files(t, f)
			args := strings.Fields(tc.args)
			last := len(args) - 1
			args[last] = sandbox + ":" + args[last]
			if args[last-1] != "-" {
				args[last-1] = filepath.Join(dir, args[last-1])
			}
			if r := brig(t, socket, tc.in, append([]string{"cp"}, args...)...); r.Status != 0 {
				t.Fatal(r)
			}
			tc.want.Sandbox = sandbox
			if diff := cmp.Diff(tc.want, f.start, protocmp.Transform()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			got := string(f.written)
			if tc.want.Archive {
				got = tarNames(t, f.written)
			}
			if got != tc.data {
				t.Errorf("sent %q, want %q", got, tc.data)
			}
		})
	}
	for args, want := range map[string]string{
		"d /file":       "no directory",
		"d /folder":     "--replace",
		"f /none/":      "no such directory",
		"none /new":     "no such file",
		"/dev/null /x":  "neither a file",
		"f nobody:/new": "no sandbox",
	} {
		f := &fakeFiles{there: there}
		sandbox, socket := files(t, f)
		from, to, _ := strings.Cut(args, " ")
		if !strings.Contains(to, ":") {
			to = sandbox + ":" + to
		}
		if !strings.HasPrefix(from, "/") {
			from = filepath.Join(dir, from)
		}
		if r := brig(t, socket, "", "cp", from, to); r.Status != 1 || !strings.Contains(r.Err, want) || f.start != nil {
			t.Errorf("%s: %+v, want %q and nothing sent", args, r, want)
		}
	}
}

func tarNames(t *testing.T, data []byte) string {
	t.Helper()
	var all []string
	for in := tar.NewReader(bytes.NewReader(data)); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return strings.Join(all, " ")
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, h.Name)
	}
}

func TestCopyUsage(t *testing.T) {
	for _, args := range []string{"a b", "sb:/a sb:/b", "./a:b /c:d", "- -", "--max-size 0 sb:a b", "--max-size x sb:a b", "sb:a"} {
		if r := brig(t, "/nowhere", "", append([]string{"cp"}, strings.Fields(args)...)...); r.Status != 2 {
			t.Errorf("%s: %+v, want a usage error", args, r)
		}
	}
}
