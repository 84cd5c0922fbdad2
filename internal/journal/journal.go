// Package journal keeps a stream of bytes in a file whose offsets are the stream's own:
// byte n of the stream is byte n of the file. Old bytes are dropped by punching holes,
// so the file only ever grows in length while the space it takes stays bounded. Whoever
// reads or writes may therefore die at any instant and go on later at the offset it had
// reached, without a byte lost or repeated.
//
// What a program writes goes through a Writer: the shim makes the file, any number of
// Readers follow it. What exceeds the journal's bound is for its Spec to say: the oldest
// is dropped, or the Writer waits until a Reader has released what it has read. The file
// does not record that such a stream has ended: whoever knows that the program has ended
// (its exit status is on record) knows that no byte will follow.
//
// What a program reads goes through an Input: brigd makes the file and appends to it,
// the shim's one Reader follows and releases what the program has taken. Its end is
// recorded: an Input that nobody may write to any more (its mode says so) is complete.
//
// The kept bytes are one run, [Start, Size): a hole begins at 0 or nowhere, and ends at a
// multiple of Chunk. A Reader never returns bytes of a hole: where the bytes it is asked
// for are gone it answers from the oldest kept byte on and says so.
//
// Nobody polls: who waits is woken by inotify, by writes and by holes that others punch.
// A process has one inotify instance for all its journals, and looks from time to time
// where the kernel refuses it one.
//
// One value is not safe for concurrent use, but for Close and Writer.Lift.
package journal

import (
	"os"

	"golang.org/x/sys/unix"
)

const (
	// Chunk is the granularity in which bytes are dropped. It is a multiple of every
	// block size in use, because a hole within a block frees nothing.
	Chunk = 64 << 10
	// Keep is what a Reader leaves of what it has read, for one that comes again: more
	// than is on its way to a client whose connection breaks.
	Keep = 8 << 20
	// Window is how much of an Input may wait for the program before Append does.
	Window = 1 << 20
)

// startOf is the offset of the oldest kept byte of a journal, its size if there is none.
// from is a start known from before: looking goes on there.
func startOf(f *os.File, from int64) (int64, error) {
	start, err := seekData(f, from)
	if err != unix.ENXIO {
		return start, err
	}
	// There was no data. The size is asked for before looking once more: what is written
	// in between begins there, and must not be taken for dropped.
	fi, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if start, err = seekData(f, from); err == unix.ENXIO {
		return fi.Size(), nil
	}
	return start, err
}

func seekData(f *os.File, from int64) (start int64, err error) {
	err = control(f, func(fd int) (err error) { start, err = unix.Seek(fd, from, unix.SEEK_DATA); return err })
	return start, err
}

// punch drops the bytes from start to end, multiples of Chunk.
func punch(f *os.File, start, end int64) error {
	return control(f, func(fd int) error {
		return unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, start, end-start)
	})
}

// writeAt tells, unlike os.File's, what a write that failed in its midst has written.
func writeAt(f *os.File, p []byte, off int64) (n int, err error) {
	for n < len(p) {
		var wrote int
		err := control(f, func(fd int) (err error) { wrote, err = unix.Pwrite(fd, p[n:], off+int64(n)); return err })
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return n, err
		}
		n += wrote
	}
	return n, nil
}

// chunks rounds down to what a hole may end at.
func chunks(offset int64) int64 { return offset / Chunk * Chunk }

// control lends the descriptor to fn. A Close meanwhile waits: with a number that was
// given to another file, a hole would be punched in that one.
func control(f *os.File, fn func(fd int) error) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var errFn error
	if err := conn.Control(func(fd uintptr) { errFn = fn(int(fd)) }); err != nil {
		return os.ErrClosed // Control says it in words of its own, and nothing else
	}
	return errFn
}
