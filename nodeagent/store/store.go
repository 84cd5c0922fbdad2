// Package store keeps the node's records of sandboxes in one bbolt file. Every
// change is one transaction, on disk before the call returns: after a crash at any
// instant a record is as it was before a change or as it is after. The indexes by
// request id and by name change in the same transaction as their record.
//
// A Store is safe for concurrent use. One process has the file at a time; a second
// one is refused. Values are JSON and read strictly: a record that this version
// does not understand in full is an error, not half a record.
package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"
)

// version of the file's layout. A file of another version is refused.
const version = "1"

var (
	metaBucket     = []byte("meta")
	sandboxBucket  = []byte("sandboxes")
	requestBucket  = []byte("requests") // owner/request id → sandbox id
	nameBucket     = []byte("names")    // owner/name → id of the live sandbox
	versionKey     = []byte("version")
	errOtherFormat = errors.New("the store was written by another version of brig: start that one, or move the file away to begin anew")
)

// Store of records.
type Store struct {
	db *bbolt.DB
	// told how long transactions take
	read, written func(time.Duration)
}

// Open opens or makes the file at path.
func Open(path string) (*Store, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("make the store's folder: %w", err)
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: time.Second})
	if errors.Is(err, bbolterrors.ErrTimeout) {
		return nil, fmt.Errorf("store %s is in use: another brigd runs", path)
	}
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", path, err)
	}
	if err := db.Update(prepare); err != nil {
		return nil, errors.Join(fmt.Errorf("store %s: %w", path, err), db.Close())
	}
	return &Store{db: db}, nil
}

func prepare(tx *bbolt.Tx) error {
	meta := tx.Bucket(metaBucket)
	if meta != nil && string(meta.Get(versionKey)) != version {
		return errOtherFormat
	}
	for _, name := range [][]byte{metaBucket, sandboxBucket, requestBucket, nameBucket} {
		if _, err := tx.CreateBucketIfNotExists(name); err != nil {
			return fmt.Errorf("make bucket %s: %w", name, err)
		}
	}
	return tx.Bucket(metaBucket).Put(versionKey, []byte(version))
}

// Close closes the file.
func (s *Store) Close() error { return s.db.Close() }
