// Package guest is what brig-files does inside a sandbox: it carries out one request,
// with the rights and in the view of the sandbox's own user, and ends. It answers by
// frames of package wire on its stdout.
//
// It needs nothing of the image. What it makes appears whole or not at all: it waits in
// a folder beside its place, which goes when the request fails. That it does also when
// brigd breaks off, or falls silent: a brigd that was killed closes nothing.
package guest

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"

	"brig/nodeagent/files/wire"
	"brig/nodeagent/tree"
)

// Serve carries out the request in argument and returns the status to exit with. The
// answer tells more.
//
// Closing in must end a read of it.
func Serve(argument string, in io.ReadCloser, out io.Writer) int {
	s := server{in: &input{from: in, frames: wire.NewReader(in)}, out: wire.NewWriter(out)}
	r, err := wire.ParseRequest(argument)
	if err != nil {
		return s.fail(&wire.Failure{Class: wire.Invalid, Text: "brig-files does not understand brigd, they are of different releases: " + err.Error()})
	}
	end, err := s.do(r)
	if err != nil {
		return s.fail(err)
	}
	if s.out.Value(wire.KindEnd, end) != nil {
		return 1 // nobody listens
	}
	return 0
}

type server struct {
	in  *input
	out *wire.Writer
}

func (s *server) do(r wire.Request) (wire.End, error) {
	switch r.Op {
	case wire.Read:
		if r.Archive {
			return wire.End{}, s.archive(r.Path)
		}
		return wire.End{}, s.read(r)
	case wire.Write:
		size, err := s.write(r)
		return wire.End{Size: size}, err
	case wire.List:
		truncated, err := s.list(r.Path)
		return wire.End{Truncated: truncated}, err
	case wire.Stat:
		return wire.End{}, s.stat(r.Path)
	case wire.MakeDirectory:
		return wire.End{}, makeDirectory(r)
	case wire.Remove:
		return wire.End{}, remove(r)
	}
	return wire.End{}, &wire.Failure{Class: wire.Invalid, Text: "brig-files knows no " + string(r.Op)}
}

func (s *server) fail(err error) int {
	var f *wire.Failure
	if !errors.As(err, &f) {
		f = &wire.Failure{Class: class(err), Text: err.Error()}
	}
	_ = s.out.Value(wire.KindFailure, f) // if nobody listens, nobody does
	return 1
}

// class says for what the sandbox's kernel refused something.
func class(err error) wire.Class {
	var errno syscall.Errno
	switch {
	case errors.Is(err, tree.ErrArchive):
		return wire.Invalid
	case errors.Is(err, fs.ErrNotExist):
		return wire.NotFound
	case !errors.As(err, &errno):
		return wire.Aborted
	}
	switch errno {
	case syscall.ENOENT:
		return wire.NotFound
	case syscall.EEXIST:
		return wire.Exists
	case syscall.EACCES, syscall.EPERM, syscall.EROFS:
		return wire.Denied
	case syscall.ENOTDIR, syscall.EISDIR, syscall.ENOTEMPTY, syscall.EBUSY, syscall.ELOOP, syscall.EXDEV, syscall.ETXTBSY, syscall.ENXIO:
		return wire.Precondition
	case syscall.ENAMETOOLONG, syscall.EINVAL:
		return wire.Invalid
	case syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.EMLINK:
		return wire.Exhausted
	}
	return wire.Aborted
}

func refuse(path, why string) error {
	return &wire.Failure{Class: wire.Precondition, Text: path + " " + why}
}

// infoOf is what is said of a file called name.
func infoOf(name string, fi fs.FileInfo) wire.Info {
	i := wire.Info{Name: name, Type: wire.Other, Size: uint64(fi.Size()), MTime: fi.ModTime().Unix(), MNanos: int64(fi.ModTime().Nanosecond())}
	switch fi.Mode().Type() {
	case 0:
		i.Type = wire.Regular
	case fs.ModeDir:
		i.Type = wire.Directory
	case fs.ModeSymlink:
		i.Type = wire.Symlink
	}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		i.Mode, i.UID, i.GID = st.Mode&0o7777, st.Uid, st.Gid
	}
	return i
}

// modeOf is the protocol's mode as Go has it.
func modeOf(bits uint32) os.FileMode {
	mode := os.FileMode(bits & 0o777)
	for bit, flag := range map[uint32]os.FileMode{0o4000: os.ModeSetuid, 0o2000: os.ModeSetgid, 0o1000: os.ModeSticky} {
		if bits&bit != 0 {
			mode |= flag
		}
	}
	return mode
}
