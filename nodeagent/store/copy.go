package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/containerd/errdefs"
	"go.etcd.io/bbolt"

	"brig/internal/sandbox"
	"brig/nodeagent/record"
)

// copied is a record's copy: what a store is rebuilt of.
type copied struct {
	Version int           `json:"version"`
	Record  record.Record `json:"record"`
}

// Copy has every change of a record copied from now on to the path that it gives for
// the sandbox: before the change is committed, and with it if that is a new record.
// The copy of a later change that cannot be written is an error in log alone, and tried
// again by Recopy: an end must be recorded on a full disk, too. Copies are not synced:
// they outlive brigd's store, and of what runs nothing outlives the machine.
func (s *Store) Copy(path func(sandbox.ID) string, log *slog.Logger) { s.copies, s.log = path, log }

// copyNew makes the sandbox's folder, too.
func (s *Store) copyNew(r *record.Record) error {
	if s.copies == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(s.copies(r.ID)), 0o700); err != nil {
		return fmt.Errorf("make the sandbox's folder: %w", err)
	}
	return s.writeCopy(r)
}

// dropCopy takes the folder of a record away that was not added.
func (s *Store) dropCopy(id sandbox.ID) error {
	if s.copies == nil {
		return nil
	}
	return os.RemoveAll(filepath.Dir(s.copies(id)))
}

func (s *Store) copyAgain(r *record.Record) {
	if s.copies == nil {
		return
	}
	err := s.writeCopy(r)
	if err != nil {
		s.log.Warn("copy a record", "sandbox", r.ID, "err", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if delete(s.stale, r.ID); err != nil {
		s.stale[r.ID] = true
	}
}

// writeCopy replaces the copy as a whole. A sandbox whose folder is gone gets none.
func (s *Store) writeCopy(r *record.Record) error {
	data, err := json.Marshal(copied{version, *r})
	if err != nil {
		return fmt.Errorf("encode record %s: %w", r.ID, err)
	}
	path := s.copies(r.ID)
	err = os.WriteFile(path+".new", data, 0o600)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return errors.Join(fmt.Errorf("copy record %s: %w", r.ID, err), os.Remove(path+".new"))
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("copy record %s: %w", r.ID, err)
	}
	return nil
}

// Recopy tries again what could not be copied.
func (s *Store) Recopy() error {
	s.mu.Lock()
	ids := slices.Collect(maps.Keys(s.stale))
	s.mu.Unlock()
	for _, id := range ids {
		// In a transaction, so that no later change comes in between.
		err := s.update(func(tx *bbolt.Tx) error {
			r, err := get(tx, id)
			if err == nil {
				s.copyAgain(&r)
			}
			return err
		})
		if errdefs.IsNotFound(err) {
			s.mu.Lock()
			delete(s.stale, id)
			s.mu.Unlock()
		} else if err != nil {
			return err
		}
	}
	return nil
}

func readCopy(path string, id sandbox.ID) (record.Record, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return record.Record{}, err
	}
	var c copied
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&c); err != nil {
		return record.Record{}, err
	}
	if c.Version != version || c.Record.ID != id {
		return record.Record{}, fmt.Errorf("it is the copy of %q, of version %d", c.Record.ID, c.Version)
	}
	return c.Record, nil
}
