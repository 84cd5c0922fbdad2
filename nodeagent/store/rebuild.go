package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"brig/internal/sandbox"
	"brig/nodeagent/record"
)

// Rebuilt is what a rebuild did.
type Rebuilt struct {
	// Records that the new store has.
	Records int
	// Kept is where the old file is now; empty: there was none.
	Kept string
	// Lost are sandboxes that have a folder and no copy that can be read, with the
	// reason. brigd removes them when it starts.
	Lost []string
}

// Rebuild puts a new store in the place of the file at path, which is kept beside it,
// made of the copies: folders holds one folder for each sandbox, named by its id, with a
// copy under the name file. If a sandbox has no copy that can be read it does nothing
// and says so, unless force is set. No brigd may have the store.
func Rebuild(path, folders, file string, force bool) (Rebuilt, error) {
	lock, err := exclude(path)
	if err != nil {
		return Rebuilt{}, err
	}
	if lock != nil {
		defer lock.Close()
	}
	records, lost, err := readCopies(folders, file)
	if err != nil {
		return Rebuilt{}, err
	}
	done := Rebuilt{Records: len(records), Lost: lost}
	if len(lost) > 0 && !force {
		return done, fmt.Errorf("%d sandboxes have no copy of their record that can be read and would be removed: restore the store instead, or use --force:\n  %s", len(lost), strings.Join(lost, "\n  "))
	}
	fresh := path + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, os.ErrNotExist) {
		return done, err
	}
	if err := fill(fresh, records); err != nil {
		return done, errors.Join(fmt.Errorf("make the new store: %w", err), os.Remove(fresh))
	}
	if lock != nil {
		done.Kept = path + time.Now().UTC().Format(".damaged-20060102T150405Z")
		if err := os.Rename(path, done.Kept); err != nil {
			return done, fmt.Errorf("keep the old store: %w", err)
		}
	}
	if err := os.Rename(fresh, path); err != nil {
		return done, fmt.Errorf("put the new store in place: %w", err)
	}
	return done, syncDir(filepath.Dir(path))
}

// exclude every brigd from the file; nil: there is none.
func exclude(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open the old store: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("store %s is in use: stop brigd first", path), f.Close())
	}
	return f, nil
}

func readCopies(folders, file string) (records []record.Record, lost []string, err error) {
	entries, err := os.ReadDir(folders)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, nil, fmt.Errorf("look for sandboxes: %w", err)
	}
	for _, e := range entries {
		id, err := sandbox.ParseID(e.Name())
		if err != nil {
			continue
		}
		r, err := readCopy(filepath.Join(folders, e.Name(), file), id)
		if err != nil {
			lost = append(lost, fmt.Sprintf("%s: %v", id, err))
			continue
		}
		records = append(records, r)
	}
	return records, lost, nil
}

// fill makes a store of records; it is on disk when it returns.
func fill(path string, records []record.Record) error {
	s, err := load(path)
	if err != nil {
		return err
	}
	err = s.update(func(tx *bbolt.Tx) error {
		for _, r := range records {
			if err := index(tx, &r); err != nil {
				return err
			}
			if err := put(tx, &r); err != nil {
				return err
			}
		}
		return nil
	})
	return errors.Join(err, s.Close())
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
