// Package checkpoints keeps sandboxes that were saved whole, in folders under brigd's
// state: <owner>/<name>/ with a manifest and the image that the shim wrote.
//
// A checkpoint is there whole or not at all. It is made in a folder whose name begins with
// a dot, synced, and given its name in one step; it is removed by taking that name away
// first. What a brigd that died left half-way has no name, and Sweep removes it.
//
// Folders and files are root's alone: in them is a sandbox's memory. Names are checked, and
// every file is opened below its folder, so that no link leads out. A Store is safe for
// concurrent use by one process; brigd's is the only one.
package checkpoints

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"brig/internal/failpoint"
	"brig/nodeagent/record"
)

const (
	manifestFile = "manifest.json"
	imageFolder  = "image"
	// unnamed begins the names of folders that are being made or removed.
	unnamed = "."
)

// root sees everybody's.
const root = 0

// readsAtOnce bounds the images that are read through before a restore. Whoever asks for
// one has passed no quota yet.
const readsAtOnce = 8

// Store of checkpoints.
type Store struct {
	dir string
	// reading holds a token for each image that is being read.
	reading chan struct{}

	mu   sync.Mutex     // guards what follows
	held map[string]int // by path: how many are being restored
}

// Open returns the store in dir, which is made.
func Open(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of checkpoints: %w", err)
	}
	return &Store{dir: dir, reading: make(chan struct{}, readsAtOnce), held: map[string]int{}}, nil
}

// CheckName accepts a name for a checkpoint.
func CheckName(name string) error { return record.CheckCheckpoint(name) }

func (s *Store) folder(owner uint32) string {
	return filepath.Join(s.dir, strconv.FormatUint(uint64(owner), 10))
}

func (s *Store) path(owner uint32, name string) string { return filepath.Join(s.folder(owner), name) }

// Find returns the checkpoint that uid means by name: its own; for root also the only one
// of others.
func (s *Store) Find(uid uint32, name string) (Manifest, error) {
	if err := CheckName(name); err != nil {
		return Manifest{}, err
	}
	owners := []uint32{uid}
	if uid == root {
		all, err := s.owners()
		if err != nil {
			return Manifest{}, err
		}
		owners = append(owners, slices.DeleteFunc(all, func(o uint32) bool { return o == root })...)
	}
	var found []Manifest
	for _, owner := range owners {
		m, err := s.read(owner, name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return Manifest{}, err
		case owner == uid:
			return m, nil
		default:
			found = append(found, m)
		}
	}
	switch len(found) {
	case 0:
		return Manifest{}, missing(name)
	case 1:
		return found[0], nil
	}
	return Manifest{}, errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf("several owners have a checkpoint %s: only they can use it by that name", name))
}

// OwnerOf is the owner of the checkpoint that uid means by name, also of a damaged one
// of its own.
func (s *Store) OwnerOf(uid uint32, name string) (uint32, error) {
	if err := CheckName(name); err != nil {
		return 0, err
	}
	if _, err := os.Lstat(s.path(uid, name)); err == nil {
		return uid, nil
	}
	m, err := s.Find(uid, name)
	return m.Owner, err
}

// List returns the manifests that uid may see, by name. What cannot be read is an error,
// beside the others.
func (s *Store) List(uid uint32) ([]Manifest, error) {
	owners := []uint32{uid}
	if uid == root {
		var err error
		if owners, err = s.owners(); err != nil {
			return nil, err
		}
	}
	var list []Manifest
	var errs []error
	for _, owner := range owners {
		names, err := s.names(owner)
		errs = append(errs, err)
		for _, name := range names {
			m, err := s.read(owner, name)
			if errors.Is(err, fs.ErrNotExist) {
				continue // removed meanwhile
			}
			if errs = append(errs, err); err == nil {
				list = append(list, m)
			}
		}
	}
	slices.SortFunc(list, func(a, b Manifest) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Owner, b.Owner)) })
	return list, errors.Join(errs...)
}

// Count tells how many an owner has.
func (s *Store) Count(owner uint32) (int, error) {
	names, err := s.names(owner)
	return len(names), err
}

func (s *Store) names(owner uint32) ([]string, error) {
	entries, err := os.ReadDir(s.folder(owner))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var names []string
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), unnamed) {
			names = append(names, e.Name())
		}
	}
	return names, err
}

func (s *Store) owners() ([]uint32, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("list checkpoints: %w", err)
	}
	var owners []uint32
	for _, e := range entries {
		if n, err := strconv.ParseUint(e.Name(), 10, 32); err == nil && n <= math.MaxUint32 {
			owners = append(owners, uint32(n))
		}
	}
	return owners, nil
}

// Remove deletes a checkpoint. While a sandbox is being made from it, it is an
// ErrFailedPrecondition.
func (s *Store) Remove(owner uint32, name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	gone, err := s.unname(owner, name)
	if err != nil {
		return err
	}
	failpoint.Hit("checkpoint.unnamed")
	if err := os.RemoveAll(gone); err != nil {
		return fmt.Errorf("remove checkpoint %s: %w", name, err)
	}
	return nil
}

// unname takes the name away, for good.
func (s *Store) unname(owner uint32, name string) (gone string, err error) {
	gone, err = os.MkdirTemp(s.folder(owner), unnamed)
	if err == nil {
		err = s.rename(s.path(owner, name), gone)
	}
	if err == nil {
		err = syncDir(s.folder(owner))
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = missing(name)
	} else if err != nil {
		err = fmt.Errorf("remove checkpoint %s: %w", name, err)
	}
	if err != nil && gone != "" {
		_ = os.Remove(gone) // if it is empty
	}
	return gone, err
}

// rename is short, so that it may be done under the lock.
func (s *Store) rename(path, gone string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held[path] > 0 {
		return fmt.Errorf("a sandbox is being made from it, try again: %w", errdefs.ErrFailedPrecondition)
	}
	return unix.Rename(path, gone) // Go's own refuses to replace an empty folder
}

func missing(name string) error {
	return errdefs.ErrNotFound.WithMessage(fmt.Sprintf("there is no checkpoint %s: list yours", name))
}

// Sweep removes what has no name: what was being made or removed when a brigd died. It is
// called before anything is made.
func (s *Store) Sweep() error {
	owners, err := s.owners()
	errs := []error{err}
	for _, owner := range owners {
		entries, err := os.ReadDir(s.folder(owner))
		errs = append(errs, err)
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), unnamed) {
				errs = append(errs, os.RemoveAll(s.path(owner, e.Name())))
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove unfinished checkpoints: %w", err)
	}
	return nil
}
