package store

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"

	"go.etcd.io/bbolt"
)

// damaged says what to do about a file that cannot be used.
func damaged(path string, err error) error {
	return fmt.Errorf("%w: %s is damaged (%w); nothing was changed and running sandboxes go on: restore it, or have `brigd --rebuild-store` make a new one of what the node knows", ErrRefused, path, err)
}

// guarded turns what bbolt does with a damaged file, a panic or an access beyond the
// file's end, into an error.
func guarded(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("%w: it is damaged (%v); nothing was changed and running sandboxes go on: restore it, or have `brigd --rebuild-store` make a new one of what the node knows", ErrRefused, v)
		}
	}()
	return fn()
}

// whole refuses an empty file, which bbolt would take for a new one: of a store that
// was there once it is all that is left.
func whole(path string) error {
	fi, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at store %s: %w", path, err)
	}
	if !fi.Mode().IsRegular() {
		return fmt.Errorf("%w: %s is not a file: move it away", ErrRefused, path)
	}
	if fi.Size() == 0 {
		return damaged(path, errors.New("it is empty"))
	}
	return nil
}

// check looks the whole file through and returns its version.
func (s *Store) check() (from int, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		fi, err := s.file.Stat()
		if err != nil {
			return fmt.Errorf("look at store %s: %w", s.path, err)
		}
		if fi.Size() < tx.Size() {
			return damaged(s.path, fmt.Errorf("%d of %d bytes are there", fi.Size(), tx.Size()))
		}
		if from, err = versionOf(tx); err != nil {
			return damaged(s.path, err)
		}
		if from > version {
			return fmt.Errorf("%w: %s was written by a later brig (version %d, this one knows up to %d); nothing was changed and running sandboxes go on: start that brig", ErrRefused, s.path, from, version)
		}
		if err := errors.Join(walk(tx, from), pages(tx)); err != nil {
			return damaged(s.path, err)
		}
		return nil
	})
	return from, err
}

// walk reads every record, and every page that leads to one, on a goroutine that
// survives an access beyond the file's end.
func walk(tx *bbolt.Tx, from int) error {
	if from == 0 {
		return nil
	}
	for _, name := range [][]byte{sandboxBucket, requestBucket, nameBucket} {
		b := tx.Bucket(name)
		if b == nil {
			return fmt.Errorf("it has no bucket %s", name)
		}
		err := b.ForEach(func(key, value []byte) error {
			if string(name) != string(sandboxBucket) {
				return nil
			}
			_, err := decodeAs(from, key, value)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// pages has bbolt look whether its own book-keeping is right.
func pages(tx *bbolt.Tx) (first error) {
	for err := range tx.Check() {
		if first == nil {
			first = err
		}
	}
	return first
}
