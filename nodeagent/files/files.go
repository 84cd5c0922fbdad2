// Package files is brigd's side of files of running sandboxes: every call runs
// brig-files inside the sandbox by an exec, and talks to it over its stdin and stdout.
// The sandbox's kernel says what may be done; brigd opens nothing.
//
// What comes back may be anything: a sandbox may answer in brig-files' place. So an
// answer is bounded in size, checked, and waited for no longer than stall when nobody
// else is holding it up. Its names go to the client and nowhere else.
//
// A call that ends, however it ends, leaves no exec. One that breaks off a Write tells
// brig-files to clean up, and only then kills it.
//
// Files is safe for concurrent use; a call is not.
package files

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/containerd/errdefs"

	"brig/nodeagent/files/wire"
	"brig/nodeagent/record"
)

// Program is brig-files, running. Closing a stream ends whoever waits for it.
type Program struct {
	Stdin          io.WriteCloser // nil unless asked for
	Stdout, Stderr io.ReadCloser
	Control
}

// Control of a Program.
type Control interface {
	// CloseStdin ends what was written to Stdin.
	CloseStdin(ctx context.Context) error
	// Wait returns when the program has ended.
	Wait(ctx context.Context) (status int, at time.Time, err error)
	// Release ends it if it runs and removes every trace of it.
	Release(ctx context.Context) error
}

// Start runs brig-files with an argument in a sandbox that runs.
type Start func(ctx context.Context, rec record.Record, argument string, stdin bool) (*Program, error)

// Files of running sandboxes.
type Files struct {
	start Start
	log   *slog.Logger
}

// New returns Files.
func New(start Start, log *slog.Logger) *Files { return &Files{start: start, log: log} }

// Info about a file. It is what the sandbox says.
type Info struct {
	Name     string
	Type     wire.Type
	Size     uint64 // bytes
	Mode     uint32 // 0..07777
	Modified time.Time
	UID, GID uint32
	Target   string // what a link says
}

// Stat tells about one path; a link is not followed.
func (f *Files) Stat(ctx context.Context, rec record.Record, path string) (Info, error) {
	var found *Info
	err := f.ask(ctx, rec, wire.Request{Op: wire.Stat, Path: path}, func(i Info) error {
		found = &i
		return nil
	}, nil)
	if err == nil && found == nil {
		err = nonsense("nothing about the file")
	}
	if err != nil {
		return Info{}, err
	}
	return *found, nil
}

// infoBytes is about what an Info takes beside its texts.
const infoBytes = 128

// List returns what is in a directory, by name, and whether there is more than is
// returned. take is asked before more is kept, in bytes; its error ends the call. nil:
// nobody counts.
func (f *Files) List(ctx context.Context, rec record.Record, path string, take func(n int) error) (list []Info, truncated bool, err error) {
	size := 0
	err = f.ask(ctx, rec, wire.Request{Op: wire.List, Path: path}, func(i Info) error {
		if size += len(i.Name) + len(i.Target); size > 4*wire.MaxListedBytes || len(list) >= wire.MaxListed {
			return nonsense("a directory without end")
		}
		if take != nil {
			if err := take(len(i.Name) + len(i.Target) + infoBytes); err != nil {
				return err
			}
		}
		list = append(list, i)
		return nil
	}, func(end wire.End) { truncated = end.Truncated })
	if err != nil {
		return nil, false, err
	}
	return list, truncated, nil
}

// MakeDirectory makes a directory. Mode 0 is 0755.
func (f *Files) MakeDirectory(ctx context.Context, rec record.Record, path string, mode uint32, parents bool) error {
	return f.ask(ctx, rec, wire.Request{Op: wire.MakeDirectory, Path: path, Mode: mode, Parents: parents}, nil, nil)
}

// Remove deletes what is at path; a directory with something in it only if recursive
// is set.
func (f *Files) Remove(ctx context.Context, rec record.Record, path string, recursive bool) error {
	return f.ask(ctx, rec, wire.Request{Op: wire.Remove, Path: path, Recursive: recursive}, nil, nil)
}

// ask makes a call that sends nothing, and whose answer has no data.
func (f *Files) ask(ctx context.Context, rec record.Record, r wire.Request, info func(Info) error, end func(wire.End)) error {
	ctx, c, err := f.begin(ctx, rec, r, false)
	if err != nil {
		return err
	}
	defer c.close(ctx)
	for {
		stop := c.within(patience(r))
		kind, payload, err := c.next(ctx)
		stop()
		if err != nil {
			return err
		}
		if kind != wire.KindInfo || info == nil {
			e, err := parseEnd(kind, payload)
			if err == nil && end != nil {
				end(e)
			}
			return err
		}
		i, err := parseInfo(payload)
		if err == nil {
			err = info(i)
		}
		if err != nil {
			return err
		}
	}
}

// patience with a sandbox: removing a tree takes as long as the tree is large.
func patience(r wire.Request) time.Duration {
	if r.Op == wire.Remove && r.Recursive {
		return settle
	}
	return stall
}

// check refuses what no path can be before anything is run.
func check(r wire.Request) error {
	switch {
	case r.Path == "":
		return invalid("path is missing: say which file")
	case len(r.Path) > wire.MaxPath:
		return invalid("path has %d bytes: at most %d", len(r.Path), wire.MaxPath)
	case strings.ContainsRune(r.Path, 0) || !utf8.ValidString(r.Path):
		return invalid("path %.100q: a NUL character, or no UTF-8", r.Path)
	case r.Mode > 0o7777:
		return invalid("invalid mode %o: want permission bits, 1 to 7777, octal", r.Mode)
	case r.Archive && (r.Offset > 0 || r.Length > 0):
		return invalid("offset and length are of a file, not of an archive: leave them out")
	case r.Archive && r.Mode > 0:
		return invalid("an archive has its own modes: leave mode out")
	}
	return nil
}

func invalid(format string, args ...any) error {
	return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(format, args...))
}
