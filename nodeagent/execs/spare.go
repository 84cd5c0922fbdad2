package execs

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"brig/internal/journal"
	"brig/internal/sandbox"
)

// On a disk that is full programs can still be run, or nobody could make room from inside:
// their folders lie in memory then, with journals of the least size.
const (
	leastBytes  = 4 << 20 // free, for the usual place to be used
	leastInodes = 64
	spareBytes  = 2 * journal.Chunk
	// sparePart of the memory's file system is left to others: it is the machine's.
	sparePart = 8
)

// execsDir has a folder for each exec of a sandbox.
func (m *Manager) execsDir(id sandbox.ID) string {
	return filepath.Join(m.Folder(string(id)), execsFolder)
}

// spareDir has those that were started while the disk was full.
func (m *Manager) spareDir(id sandbox.ID) string { return filepath.Join(m.Spare, string(id)) }

// folder returns where an exec's lies, or is to be made.
func (m *Manager) folder(id sandbox.ID, exec string) (f folder, max int64) {
	usual, spare := folder(filepath.Join(m.execsDir(id), exec)), folder(filepath.Join(m.spareDir(id), exec))
	switch {
	case spare.there():
		return spare, spareBytes
	case usual.there() || hasRoom(m.Folder(string(id))):
		return usual, m.JournalBytes
	}
	return spare, spareBytes
}

// place says where the exec's folder is. It asks the disk, so it is not for under a lock;
// whoever is to claim the id has it in memory already, so no other claim comes between.
func (x *Exec) place() { x.folder, x.max = x.m.folder(x.sb.ID, x.id) }

// crowded tells that the exec would be in memory of which too little is left.
func (x *Exec) crowded() bool {
	if filepath.Dir(string(x.folder)) != x.m.spareDir(x.sb.ID) {
		return false
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(filepath.Dir(x.m.Spare), &fs); err != nil {
		return true
	}
	return fs.Bavail < fs.Blocks/sparePart
}

func (f folder) there() bool {
	_, err := os.Lstat(string(f))
	return err == nil
}

// hasRoom is true in doubt: then whatever is made there says what is wrong.
func hasRoom(dir string) bool {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return true
	}
	return int64(fs.Bavail)*fs.Bsize >= leastBytes && (fs.Files == 0 || fs.Ffree >= leastInodes)
}
