package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"strconv"

	"go.etcd.io/bbolt"
)

// version of the file's layout that this brig writes. Version 1 had values without
// checksums; it is changed to this one when it is opened, and kept beside it.
const version = 2

var table = crc32.MakeTable(crc32.Castagnoli)

// seal puts a checksum before a value: bbolt has none on its pages.
func seal(data []byte) []byte {
	sealed := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(data)), crc32.Checksum(data, table))
	return append(sealed, data...)
}

func unseal(sealed []byte) ([]byte, error) {
	if len(sealed) < 4 || binary.BigEndian.Uint32(sealed) != crc32.Checksum(sealed[4:], table) {
		return nil, errors.New("its checksum is wrong")
	}
	return sealed[4:], nil
}

// versionOf a file; 0: it is new.
func versionOf(tx *bbolt.Tx) (int, error) {
	meta := tx.Bucket(metaBucket)
	if meta == nil {
		return 0, nil
	}
	v, err := strconv.Atoi(string(meta.Get(versionKey)))
	if err != nil || v < 1 {
		return 0, fmt.Errorf("it says that it has version %q", meta.Get(versionKey))
	}
	return v, nil
}

// prepare brings a file that was looked through to this version.
func (s *Store) prepare(from int) error {
	if from == 1 {
		if err := s.keep(from); err != nil {
			return fmt.Errorf("store %s: keep a copy before it is brought to version %d: %w", s.path, version, err)
		}
	}
	err := s.db.Update(func(tx *bbolt.Tx) error {
		for _, name := range [][]byte{metaBucket, sandboxBucket, requestBucket, nameBucket, slotBucket} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return fmt.Errorf("make bucket %s: %w", name, err)
			}
		}
		if from == version {
			return nil
		}
		if from == 1 {
			if err := sealAll(tx.Bucket(sandboxBucket)); err != nil {
				return err
			}
		}
		return tx.Bucket(metaBucket).Put(versionKey, []byte(strconv.Itoa(version)))
	})
	if err != nil {
		return fmt.Errorf("store %s: %w", s.path, err)
	}
	return nil
}

func sealAll(b *bbolt.Bucket) error {
	sealed := map[string][]byte{}
	if err := b.ForEach(func(id, data []byte) error { sealed[string(id)] = seal(data); return nil }); err != nil {
		return err
	}
	for id, data := range sealed {
		if err := b.Put([]byte(id), data); err != nil {
			return err
		}
	}
	return nil
}

// keep a copy for whoever goes back to the brig before.
func (s *Store) keep(from int) error {
	return s.db.View(func(tx *bbolt.Tx) error {
		path := fmt.Sprintf("%s.v%d", s.path, from)
		f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		_, err = tx.WriteTo(f)
		return errors.Join(err, f.Sync(), f.Close())
	})
}
