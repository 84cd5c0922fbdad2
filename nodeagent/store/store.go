// Package store keeps the node's records of sandboxes in one bbolt file. Every
// change is one transaction, on disk before the call returns: after a crash at any
// instant a record is as it was before a change or as it is after. The indexes by
// request id and by name change in the same transaction as their record.
//
// A file that is truncated, damaged or of a later version is refused as a whole, before
// anything of it is used or changed (ErrRefused). Beside the file there is a copy of
// each record in its sandbox's folder (Copy), of which Rebuild makes a new store.
//
// What cannot be written is not acknowledged. A full disk is survived: the file has
// room set aside, so that ends and removals can be recorded when nothing new can. After
// a write that failed for any other reason nobody knows what is on the disk: nothing is
// written any more until the file was opened anew.
//
// A Store is safe for concurrent use. One process has the file at a time; a second
// one is refused. Values are JSON with a checksum and read strictly: a record that this
// version does not understand in full is an error, not half a record.
package store

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"

	"brig/internal/sandbox"
)

// ErrRefused is a file that this version of brig cannot or must not use. Nothing of it
// was changed.
var ErrRefused = errors.New("the store is refused")

var (
	metaBucket    = []byte("meta")
	sandboxBucket = []byte("sandboxes")
	requestBucket = []byte("requests") // owner/request id → sandbox id
	nameBucket    = []byte("names")    // owner/name → id of the live sandbox
	slotBucket    = []byte("slots")    // those of sandboxes that nobody has yet
	versionKey    = []byte("version")
)

// Store of records.
type Store struct {
	db   *bbolt.DB
	file *os.File // the same, to set room aside in
	path string

	// told how long transactions take; nil: nobody
	read, written func(time.Duration)

	copies func(sandbox.ID) string
	log    *slog.Logger

	mu     sync.Mutex // guards what follows
	broken error      // why nothing is written any more
	stale  map[sandbox.ID]bool
}

// Open opens or makes the file at path.
func Open(path string) (*Store, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("make the store's folder: %w", err)
	}
	if err := begin(path); err != nil {
		return nil, err
	}
	return load(path)
}

// begin makes the file if there is none. It has its name once it is whole, so that a
// half-made one is never taken for what is left of an old one.
func begin(path string) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("begin a store: %w", err)
	}
	defer dir.Close()
	// Against another brigd's first start in the same instant.
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("begin a store: %w", err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err := os.Remove(path + ".new"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("begin a store: %w", err)
	}
	s, err := load(path + ".new")
	if err == nil {
		err = s.Close()
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err == nil {
		err = dir.Sync()
	}
	if err != nil {
		return fmt.Errorf("begin a store: %w", err)
	}
	return nil
}

func load(path string) (*Store, error) {
	s := &Store{path: path, log: slog.New(slog.DiscardHandler), stale: map[sandbox.ID]bool{}}
	if err := guarded(s.open); err != nil {
		s.letGo()
		return nil, err
	}
	_ = s.reserve() // a full disk is no reason not to look after what runs
	return s, nil
}

func (s *Store) open() error {
	if err := whole(s.path); err != nil {
		return err
	}
	var err error
	s.db, err = bbolt.Open(s.path, 0o600, &bbolt.Options{Timeout: time.Second, OpenFile: s.openFile})
	if errors.Is(err, bbolterrors.ErrTimeout) {
		return fmt.Errorf("store %s is in use: another brigd runs", s.path)
	}
	if errno := unix.Errno(0); errors.As(err, &errno) {
		return fmt.Errorf("open store %s: %w", s.path, err)
	}
	if err != nil { // not the system's, so bbolt's about what is in the file
		return damaged(s.path, err)
	}
	from, err := s.check()
	if err != nil {
		return err
	}
	return s.prepare(from)
}

func (s *Store) openFile(path string, flags int, mode os.FileMode) (file *os.File, err error) {
	s.file, err = os.OpenFile(path, flags, mode)
	return s.file, err
}

// Close closes the file.
func (s *Store) Close() error { return s.db.Close() }

// letGo of a file that was refused, not by bbolt, which may have panicked with its locks
// held. What it has mapped keeps the file's lock, unless that is given up first.
func (s *Store) letGo() {
	if s.file != nil {
		_ = unix.Flock(int(s.file.Fd()), unix.LOCK_UN)
		_ = s.file.Close()
	}
}

// Probe is nil while the store can do its work: it answers, and no write of it has
// failed in a way that leaves the disk in doubt.
func (s *Store) Probe() error {
	if err := s.intact(); err != nil {
		return err
	}
	return s.db.View(func(*bbolt.Tx) error { return nil })
}

// update is one transaction. An error of fn changes nothing.
func (s *Store) update(fn func(*bbolt.Tx) error) error {
	if err := s.intact(); err != nil {
		return err
	}
	defer timed(s.written)()
	tx, err := s.db.Begin(true)
	if err != nil {
		return fmt.Errorf("begin to write the store: %w", err)
	}
	if err := fn(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	if err := tx.Commit(); err != nil {
		return s.failed(err)
	}
	return nil
}

func (s *Store) intact() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.broken
}

// failed judges a commit's error. When there was no room nothing was written over, and
// the next commit may succeed.
func (s *Store) failed(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return fmt.Errorf("write store %s: free some disk space: %w", s.path, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = fmt.Errorf("write store %s: look at its disk, then restart brigd: %w", s.path, err)
	return s.broken
}
