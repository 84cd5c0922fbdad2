package oci

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"time"
)

// layer collects the entries of a file system and writes them as a tar whose
// bytes depend on nothing else: sorted, owned by root, dated 1970.
type layer map[string]entry

type entry struct {
	header tar.Header
	data   []byte
}

func (l layer) dir(name string, mode int64) {
	l[name] = entry{header: tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: mode}}
}

func (l layer) file(name, content string, mode int64) {
	l[name] = entry{header: tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(content))}, data: []byte(content)}
}

func (l layer) link(name, target string) {
	l[name] = entry{header: tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}}
}

// add copies the entries of a tar for which keep says so.
func (l layer) add(r io.Reader, keep func(name string) bool) error {
	for in := tar.NewReader(r); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		name := strings.Trim(path.Clean(h.Name), "/")
		if name == "." || !keep(name) {
			continue
		}
		data, err := io.ReadAll(in)
		if err != nil {
			return err
		}
		l[name] = entry{data: data, header: tar.Header{Typeflag: h.Typeflag, Name: strings.TrimPrefix(h.Name, "./"), Linkname: h.Linkname, Mode: h.Mode, Size: h.Size}}
	}
}

func (l layer) write(path string) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	out := tar.NewWriter(f)
	for _, name := range slices.Sorted(maps.Keys(l)) {
		e := l[name]
		e.header.ModTime = time.Unix(0, 0)
		if err := out.WriteHeader(&e.header); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
		if _, err := out.Write(e.data); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
	}
	return out.Close()
}

func writeBusyboxLayer(ctx context.Context, out, path string, binary []byte) error {
	list, err := exec.CommandContext(ctx, path, "--list").Output()
	if err != nil {
		return fmt.Errorf("list applets: %w", err)
	}
	l := layer{}
	for _, dir := range []string{"bin", "dev", "etc", "home", "proc", "run", "srv", "sys", "usr", "usr/bin", "usr/sbin", "var"} {
		l.dir(dir, 0o755)
	}
	l.dir("root", 0o700)
	l.dir("tmp", 0o1777)
	l.dir("var/tmp", 0o1777)
	l.file("bin/busybox", string(binary), 0o755)
	for _, applet := range strings.Fields(string(list)) {
		if applet != "busybox" {
			l.link("bin/"+applet, "busybox")
		}
	}
	l.file("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/sh\n", 0o644)
	l.file("etc/group", "root:x:0:\nnogroup:x:65534:\n", 0o644)
	l.file("etc/nsswitch.conf", "hosts: files dns\n", 0o644)
	return l.write(out)
}
