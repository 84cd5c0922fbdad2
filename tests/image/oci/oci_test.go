package oci

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestSameInputSameBytes makes a layer and an archive of it twice.
func TestSameInputSameBytes(t *testing.T) {
	binary, err := os.ReadFile(DefaultBusybox)
	if err != nil {
		t.Skipf("this test requires busybox-static: %v", err)
	}
	var archives [2][]byte
	for i := range archives {
		dir := t.TempDir()
		layer := filepath.Join(dir, "layer.tar")
		if err := writeBusyboxLayer(context.Background(), layer, DefaultBusybox, binary); err != nil {
			t.Fatal(err)
		}
		img, err := assemble([]string{layer})
		if err != nil {
			t.Fatal(err)
		}
		archive := filepath.Join(dir, "image.tar")
		if err := WriteArchive(archive, "brig.test/busybox:1", img); err != nil {
			t.Fatal(err)
		}
		if archives[i], err = os.ReadFile(archive); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(archives[0], archives[1]) {
		t.Error("two archives of one recipe differ")
	}
}

// TestLayer shows what becomes of a package's files.
func TestLayer(t *testing.T) {
	var in bytes.Buffer
	w := tar.NewWriter(&in)
	for _, h := range []tar.Header{
		{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "./usr/", Typeflag: tar.TypeDir, Mode: 0o755, Uname: "builder"},
		{Name: "./usr/b", Typeflag: tar.TypeReg, Mode: 0o4755, Uid: 1000},
		{Name: "./usr/a", Typeflag: tar.TypeSymlink, Linkname: "b", Mode: 0o777},
		{Name: "./usr/doc", Typeflag: tar.TypeReg, Mode: 0o644},
	} {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	l := layer{}
	if err := l.add(&in, func(name string) bool { return name != "usr/doc" }); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "layer.tar")
	if err := l.write(out); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var got []string
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Uid != 0 || h.Uname != "" || h.ModTime.Unix() != 0 {
			t.Errorf("%s keeps its owner or date: %+v", h.Name, h)
		}
		got = append(got, h.FileInfo().Mode().String()+" "+h.Name+" "+h.Linkname)
	}
	want := []string{"drwxr-xr-x usr/ ", "Lrwxrwxrwx usr/a b", "urwxr-xr-x usr/b "}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
