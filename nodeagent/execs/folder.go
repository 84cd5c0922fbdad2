package execs

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"brig/internal/sandbox"
	"brig/nodeagent/record"
)

// execsFolder is in a sandbox's.
const execsFolder = "execs"

// The files of an exec's folder.
const (
	noteFile    = "note"     // what was started, written before the start
	stdoutFile  = "stdout"   // journals, which the shim makes
	stderrFile  = "stderr"   //
	stdinFile   = "stdin"    // what was sent to the program
	timeoutFile = "timeout"  // there once the program is about to be ended for its timeout
	endedFile   = "exit.new" // how it ended; the runtime may know it still
	exitFile    = "exit"     // the same, when the runtime has forgotten it
)

// note is what brigd has to know again of an exec.
type note struct {
	Digest string        `json:"digest"`
	Kept   bool          `json:"kept,omitempty"`
	TTY    bool          `json:"tty,omitempty"`
	Stdin  bool          `json:"stdin,omitempty"`
	Block  bool          `json:"block,omitempty"`
	Max    int64         `json:"max"`  // of an output journal, whatever the configuration says by now
	Boot   string        `json:"boot"` // id of the boot that Deadline counts from
	Due    time.Duration `json:"due,omitempty"`
	Began  time.Time     `json:"began"` // when it was asked for
}

// folder of an exec.
type folder string

// recorded lists the execs that have a folder.
func (m *Manager) recorded(id sandbox.ID) (execs []string) {
	for _, dir := range []string{m.execsDir(id), m.spareDir(id)} {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			m.Log.Error("list the execs of a sandbox", "sandbox", id, "err", err)
		}
		for _, e := range entries {
			execs = append(execs, e.Name())
		}
	}
	return execs
}

// Recorded lists the execs of a sandbox whose folder it is given, and apart those of which
// there is an id and nothing else, as a brigd leaves them that dies between the two.
func Recorded(sandboxFolder string) (whole, half []string, err error) {
	entries, err := os.ReadDir(filepath.Join(sandboxFolder, execsFolder))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil, nil
	}
	for _, e := range entries {
		if _, err := os.Lstat(filepath.Join(sandboxFolder, execsFolder, e.Name(), noteFile)); err != nil {
			half = append(half, e.Name())
		} else {
			whole = append(whole, e.Name())
		}
	}
	return whole, half, err
}

func (f folder) path(name string) string { return filepath.Join(string(f), name) }

// claim makes the folder. An error os.ErrExist: somebody has, now or long ago.
func (f folder) claim() error {
	err := os.Mkdir(string(f), 0o700)
	if errors.Is(err, os.ErrNotExist) {
		if err := os.MkdirAll(filepath.Dir(string(f)), 0o700); err != nil {
			return disk("make the folder of execs", err)
		}
		err = os.Mkdir(string(f), 0o700)
	}
	if errors.Is(err, os.ErrExist) {
		return err
	}
	return disk("make the folder of an exec", err)
}

// disk gives a full disk the class that tells a client that it is not to blame.
func disk(doing string, err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return errdefs.ErrResourceExhausted.WithMessage(doing + ": the node's disk is full")
	}
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return nil
}

// write makes a file of one value. A kill leaves it empty or whole.
func (f folder) write(name string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode %s: %w", name, err)
	}
	// Without package os, which would have the file polled first: this is on the path of
	// every exec. A former exec's file is not emptied first, for which some file systems
	// go to the disk.
	fd, err := unix.Open(f.path(name), unix.O_WRONLY|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return disk("write an exec's "+name, err)
	}
	return disk("write an exec's "+name, errors.Join(overwrite(fd, data), unix.Close(fd)))
}

// overwrite whatever is in a file.
func overwrite(fd int, data []byte) error {
	n, err := unix.Write(fd, data)
	if err == nil && n < len(data) {
		err = unix.ENOSPC
	}
	if err != nil {
		return errors.Join(err, unix.Ftruncate(fd, 0))
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Size == int64(len(data)) {
		return err
	}
	return unix.Ftruncate(fd, int64(len(data)))
}

// read is strict, as everything that brigd reads back.
func (f folder) read(name string, v any) error {
	data, err := os.ReadFile(f.path(name))
	if err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return fmt.Errorf("read %s: %w", f.path(name), err)
	}
	return nil
}

// exit returns how the exec ended, if it is on record, and whether the runtime may still
// know it.
func (f folder) exit() (exit record.Exit, known, lingers bool) {
	if f.read(exitFile, &exit) == nil {
		return exit, true, false
	}
	if f.read(endedFile, &exit) == nil {
		return exit, true, true
	}
	return record.Exit{}, false, false
}

// forgotten records that the runtime knows the program no more.
func (f folder) forgotten() error {
	return disk("record that an exec is forgotten", os.Rename(f.path(endedFile), f.path(exitFile)))
}

func (f folder) timedOut() bool {
	_, err := os.Lstat(f.path(timeoutFile))
	return err == nil
}

// remove what is known to be there, and then, if that was not all, whatever is.
func (f folder) remove() error {
	for _, name := range []string{stdoutFile, stderrFile, noteFile} {
		_ = unix.Unlink(f.path(name)) // else the folder is not empty
	}
	if unix.Rmdir(string(f)) == nil {
		return nil
	}
	return os.RemoveAll(string(f))
}
