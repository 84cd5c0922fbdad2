package command

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	brigv1 "brig/nodeagent/api/brig/v1"
	"brig/nodeagent/brig/client"
	"brig/nodeagent/tree"
	"connectrpc.com/connect"
	"golang.org/x/sys/unix"
)

// outgoing is what goes into a sandbox.
type outgoing struct {
	name    string
	folder  bool
	archive bool
	mode    uint32 // of a file
	// send writes it, whole.
	send func(io.Writer) error
	// close is called in the end.
	close func()
}

func (a *app) copyIn(ctx context.Context, c copying, from string, to remote, show func(uint64)) (uint64, error) {
	cl := a.client()
	what, err := a.outgoing(from)
	if err != nil {
		return 0, err
	}
	defer what.close()
	target, there, err := remotePlace(ctx, cl, to, what)
	if err != nil {
		return 0, err
	}
	if there && what.folder && !c.replace {
		return 0, fmt.Errorf("%s is there already: choose another name, or replace it as a whole with --replace", target)
	}
	r, w := io.Pipe()
	sent := make(chan struct{})
	go func() { defer close(sent); _ = w.CloseWithError(what.send(w)) }()
	n, err := client.WriteFiles(ctx, cl, &brigv1.FilesWriteStart{
		Sandbox: to.sandbox, Path: target, Mode: what.mode, Archive: what.archive,
		Replace: what.archive && (c.replace || !what.folder),
	}, r, show)
	_ = r.Close() // a sender that is not done ends
	if from != dash {
		<-sent // a read of stdin may never return
	}
	return n, err
}

// remotePlace says where a copy is made in a sandbox, and whether something is there.
func remotePlace(ctx context.Context, c *client.Client, to remote, what outgoing) (target string, there bool, err error) {
	isDir, there, err := look(ctx, c, to.sandbox, to.path)
	if err != nil {
		return "", false, err
	}
	switch {
	case isDir:
		target = path.Join(to.path, what.name)
		_, there, err = look(ctx, c, to.sandbox, target)
		return target, there, err
	case there && what.folder:
		return "", false, fmt.Errorf("%s is no directory, and a directory cannot be copied over it", to.path)
	case strings.HasSuffix(to.path, "/") && !what.folder:
		return "", false, fmt.Errorf("%s: there is no such directory; make it, or leave the last slash out", to.path)
	}
	return to.path, there, nil
}

// look tells whether something is there, and whether it is, or leads to, a directory.
func look(ctx context.Context, c *client.Client, sandbox, p string) (isDir, there bool, err error) {
	stat := func(p string) (brigv1.FileType, error) {
		res, err := c.Files.Stat(ctx, connect.NewRequest(&brigv1.FilesStatRequest{Sandbox: sandbox, Path: p}))
		if err != nil {
			return 0, err
		}
		return res.Msg.GetFile().GetType(), nil
	}
	kind, err := stat(p)
	if connect.CodeOf(err) == connect.CodeNotFound {
		// The sandbox itself may be what is missing.
		if _, err := stat("/"); err != nil {
			return false, false, err
		}
		return false, false, nil
	}
	if err != nil {
		return false, false, err
	}
	if kind == brigv1.FileType_FILE_TYPE_SYMLINK {
		behind, err := stat(strings.TrimRight(p, "/") + "/.")
		return err == nil && behind == brigv1.FileType_FILE_TYPE_DIRECTORY, true, nil
	}
	return kind == brigv1.FileType_FILE_TYPE_DIRECTORY, true, nil
}

// outgoing opens what is copied.
func (a *app) outgoing(from string) (outgoing, error) {
	if from == dash {
		return fromArchive(a.In)
	}
	abs, err := filepath.Abs(from)
	if err != nil {
		return outgoing{}, err
	}
	info, err := os.Lstat(from) // follows a link that a slash comes after
	if err != nil {
		return outgoing{}, err
	}
	if info.Mode().IsRegular() {
		return fromFile(abs)
	}
	if !info.IsDir() && info.Mode().Type() != fs.ModeSymlink {
		return outgoing{}, fmt.Errorf("%s is neither a file nor a directory nor a link", from)
	}
	return fromTree(abs, info.IsDir())
}

func fromFile(name string) (outgoing, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return outgoing{}, err
	}
	info, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return outgoing{}, err
	}
	return outgoing{
		name: filepath.Base(name), mode: cmp.Or(uint32(info.Mode().Perm()), 0o400),
		send:  func(w io.Writer) error { _, err := io.Copy(w, f); return err },
		close: func() { _ = f.Close() },
	}, nil
}

func fromTree(name string, folder bool) (outgoing, error) {
	dir, base := filepath.Split(name)
	at := base
	if folder {
		// The folder itself is opened, and not its name once more later.
		dir, at = name, "."
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return outgoing{}, err
	}
	if base == "" {
		base = "root"
	}
	return outgoing{
		name: base, folder: folder, archive: true,
		send:  func(w io.Writer) error { _, err := tree.Pack(w, root, at, base); return err },
		close: func() { _ = root.Close() },
	}, nil
}

// fromArchive looks at the first entry, for what the archive makes.
func fromArchive(in io.Reader) (outgoing, error) {
	var seen bytes.Buffer
	reader := tar.NewReader(io.TeeReader(in, &seen))
	h, err := reader.Next()
	for err == nil && h.Typeflag == tar.TypeXGlobalHeader {
		h, err = reader.Next()
	}
	if err != nil {
		return outgoing{}, fmt.Errorf("read a tar archive from stdin: %w", err)
	}
	top, below, _ := strings.Cut(path.Clean(h.Name), "/")
	return outgoing{
		name: top, folder: below != "" || h.Typeflag == tar.TypeDir, archive: true,
		send:  func(w io.Writer) error { _, err := io.Copy(w, io.MultiReader(&seen, in)); return err },
		close: func() {},
	}, nil
}
