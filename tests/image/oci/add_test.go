package oci

import (
	"archive/tar"
	"errors"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

// TestAdd: the program is there, executable, and the environment grows.
func TestAdd(t *testing.T) {
	img, err := Add(empty.Image, "check", []byte("program"), "A=1", "B=2")
	if err != nil {
		t.Fatal(err)
	}
	img, err = Add(img, "other", []byte("another"), "C=3")
	if err != nil {
		t.Fatal(err)
	}
	file, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"A=1", "B=2", "C=3"}, file.Config.Env); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
	files := map[string]string{}
	content := mutate.Extract(img)
	defer content.Close()
	for in := tar.NewReader(content); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		if h.Mode != 0o755 || h.Uid != 0 {
			t.Errorf("%s: mode %o, uid %d", h.Name, h.Mode, h.Uid)
		}
		files[h.Name] = string(data)
	}
	if diff := cmp.Diff(map[string]string{"usr/bin/check": "program", "usr/bin/other": "another"}, files); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}
