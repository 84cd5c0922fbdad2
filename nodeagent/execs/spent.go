package execs

import (
	"path/filepath"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"brig/internal/sandbox"
)

// An exec that is not kept leaves its folder, with the note in it, to the next: to make and
// remove two files for each is most of what the disk has to do for one. The note is
// overwritten; a brigd that dies before finds a program in it that never ran. Journals are
// never used again, so that no byte of one program comes to be read as another's.

const (
	// spentFolder is in a sandbox's.
	spentFolder = "execs.spent"
	// maxSpent folders of a sandbox wait for an exec.
	maxSpent = 64
)

// spent are the folders of one sandbox that no exec has.
type spent struct {
	mu    sync.Mutex
	free  []folder
	made  int
	ended bool // the sandbox's folder is about to be removed
}

func (m *Manager) spentDir(id sandbox.ID) string {
	return filepath.Join(m.Folder(string(id)), spentFolder)
}

// take one for to, which is not there.
func (s *spent) take(to folder) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.free)
	if n == 0 || s.ended {
		return false
	}
	last := s.free[n-1]
	s.free = s.free[:n-1]
	return unix.Renameat2(unix.AT_FDCWD, string(last), unix.AT_FDCWD, string(to), unix.RENAME_NOREPLACE) == nil
}

// put from into dir. Nothing is put there once it is closed.
func (s *spent) put(from folder, dir string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended || len(s.free) >= maxSpent {
		return false
	}
	to := folder(filepath.Join(dir, strconv.Itoa(s.made)))
	err := unix.Rename(string(from), string(to))
	if err == unix.ENOENT && unix.Mkdir(dir, 0o700) == nil {
		err = unix.Rename(string(from), string(to))
	}
	if err != nil {
		return false
	}
	s.made++
	s.free = append(s.free, to)
	return true
}

func (s *spent) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
}

// claimFolder claims the exec's, with that of a former exec if its id is one that nobody
// else can claim.
func (x *Exec) claimFolder(s Spec) error {
	if s.ID == "" && x.isUsual() && x.m.box(x.sb.ID).spent.take(x.folder) {
		return nil
	}
	return x.folder.claim()
}

// spend leaves the folder to another exec, if there is nothing in it but a note.
func (x *Exec) spend() bool {
	if x.note.Kept || x.note.Stdin || x.note.Due > 0 || !x.isUsual() || isClosed(x.sb.Ended) {
		return false
	}
	for _, name := range []string{stdoutFile, stderrFile} {
		if err := unix.Unlink(x.folder.path(name)); err != nil && err != unix.ENOENT {
			return false
		}
	}
	b := x.m.known(x.sb.ID)
	return b != nil && b.spent.put(x.folder, x.m.spentDir(x.sb.ID))
}

func (x *Exec) isUsual() bool { return filepath.Dir(string(x.folder)) == x.m.execsDir(x.sb.ID) }
