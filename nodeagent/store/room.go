package store

import (
	"errors"
	"fmt"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

// room is set aside in the file beyond what is in use, in bytes. A change of one record
// takes some pages for as long as it lasts.
const room = 1 << 20

// reserve has the disk set room aside. A filesystem that cannot gives none.
func (s *Store) reserve() error {
	var used int64
	if err := s.db.View(func(tx *bbolt.Tx) error { used = tx.Size(); return nil }); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(s.file.Fd()), &st); err != nil {
		return fmt.Errorf("look at store %s: %w", s.path, err)
	}
	if st.Blocks*512 >= used+room/2 {
		return nil
	}
	err := unix.Fallocate(int(s.file.Fd()), 0, 0, used+room)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("set room aside in store %s: free some disk space: %w", s.path, err)
	}
	return nil
}
