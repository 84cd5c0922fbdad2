package main

import (
	"archive/tar"
	"bytes"
	"context"
	"io"

	"brig/tests/image/oci"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// extras are what the suite expects of its images beyond a busybox.
var extras = []struct {
	name    string
	mode    int64
	content string
}{
	// Three users, of whom two have the name and the ids of those in the official
	// busybox; the third is in whose name the tests of user namespaces run.
	{"etc/passwd", 0o644, "root:x:0:0:root:/root:/bin/sh\nsys:x:3:3:sys:/dev:/bin/false\n" +
		"www-data:x:33:33:www-data:/var/www:/bin/false\nbackup:x:34:34:backup:/var/backups:/bin/false\n"},
	{"etc/group", 0o644, "root:x:0:\nsys:x:3:\nwww-data:x:33:\nbackup:x:34:\n"},
	// The official busybox's nc has a handler for SIGTERM, without which the first
	// process of a process namespace ignores it; Debian's has none.
	{"bin/nc", 0o755, "#!/bin/sh\ntrap 'exit 143' TERM\nbusybox nc \"$@\" &\nwait $!\n"},
	// For a test of setuid bits.
	{"bin/bash", 0o755, "#!/bin/sh\nexec sh \"$@\"\n"},
	{"usr/bin/passwd", 0o4755, "#!/bin/sh\n"},
}

// image is a busybox with the extras on top.
func image(ctx context.Context) (v1.Image, error) {
	base, err := oci.Recipe{}.Image(ctx)
	if err != nil {
		return nil, err
	}
	var content bytes.Buffer
	out := tar.NewWriter(&content)
	for _, e := range extras {
		if err := out.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: e.name, Mode: e.mode, Size: int64(len(e.content))}); err != nil {
			return nil, err
		}
		if _, err := io.WriteString(out, e.content); err != nil {
			return nil, err
		}
	}
	if err := out.Close(); err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content.Bytes())), nil },
		tarball.WithMediaType("application/vnd.oci.image.layer.v1.tar+gzip"))
	if err != nil {
		return nil, err
	}
	return mutate.AppendLayers(base, layer)
}
