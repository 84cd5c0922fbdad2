package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	brigv1 "brig/nodeagent/api/brig/v1"
	"brig/nodeagent/brig/client"
	"brig/nodeagent/brig/terminal"
	"brig/nodeagent/tree"
)

// copyOut takes what a sandbox sends for a hostile archive: what the user typed decides
// where it goes, and package tree holds it there.
func (a *app) copyOut(ctx context.Context, c copying, from remote, to string, show func(uint64)) (uint64, error) {
	if to == dash && terminal.Is(a.Out) {
		return 0, usagef("stdout is a terminal, and a tar archive would go there: redirect it")
	}
	d, err := client.ReadFiles(ctx, a.client(), &brigv1.FilesReadRequest{Sandbox: from.sandbox, Path: from.path, Archive: true})
	if err != nil {
		return 0, err
	}
	defer d.Close()
	in := &counted{in: d, show: show}
	if to == dash {
		n, err := io.Copy(a.Out, in)
		return uint64(n), err
	}
	folder := d.Info.GetType() == brigv1.FileType_FILE_TYPE_DIRECTORY
	dir, name, err := localPlace(to, lastElement(from.path, d.Info.GetName()), folder)
	if err != nil {
		return 0, err
	}
	return c.arrive(in, dir, name, folder)
}

// arrive unpacks in and puts it in its place.
func (c copying) arrive(in io.Reader, dir, name string, folder bool) (bytes uint64, err error) {
	arrival, err := tree.Arrive(dir)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, arrival.Close()) }()
	summary, err := arrival.Unpack(in, c.limits())
	if err != nil {
		return 0, err
	}
	info, err := arrival.Info()
	if err != nil {
		return 0, err
	}
	if info.IsDir() != folder {
		return 0, errors.New("the sandbox sent something else than it had announced")
	}
	put := arrival.Over
	switch {
	case folder && c.replace:
		put = arrival.Replace
	case folder:
		put = arrival.Put
	}
	err = put(name)
	if folder && errors.Is(err, fs.ErrExist) {
		return 0, fmt.Errorf("%s is there already: choose another name, or replace it as a whole with --replace", filepath.Join(dir, name))
	}
	return uint64(summary.Bytes), err
}

// limits keep a sandbox from filling the memory, and by its owner's leave the disk.
func (c copying) limits() tree.Limits {
	return tree.Limits{Entries: 10_000_000, Bytes: int64(c.max), Names: 256 << 20}
}

// lastElement is what the user called something in a sandbox, or what the sandbox does.
func lastElement(typed, told string) string {
	typed = strings.TrimRight(typed, "/")
	typed = typed[strings.LastIndex(typed, "/")+1:]
	if typed == "" || typed == "." || typed == ".." {
		return told
	}
	return typed
}

// localPlace says where a copy that is sent as name is made.
func localPlace(to, name string, folder bool) (dir, as string, err error) {
	info, err := os.Stat(to)
	switch {
	case err == nil && info.IsDir():
		if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
			return "", "", fmt.Errorf("the sandbox calls it %.100q, which is no name: say what the copy is called", name)
		}
		return to, name, nil
	case err == nil && folder:
		return "", "", fmt.Errorf("%s is no directory, and a directory cannot be copied over it", to)
	case err == nil && strings.HasSuffix(to, "/"):
		return "", "", fmt.Errorf("%s is no directory", to)
	case errors.Is(err, fs.ErrNotExist) && strings.HasSuffix(to, "/") && !folder:
		return "", "", fmt.Errorf("%s: there is no such directory; make it, or leave the last slash out", to)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return "", "", err
	}
	to = filepath.Clean(to)
	return filepath.Dir(to), filepath.Base(to), nil
}

// counted tells how far a reader has come.
type counted struct {
	in   io.Reader
	n    uint64
	show func(uint64)
}

// Read is that of io.Reader.
func (c *counted) Read(p []byte) (int, error) {
	n, err := c.in.Read(p)
	c.n += uint64(n)
	c.show(c.n)
	return n, err
}
