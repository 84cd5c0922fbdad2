package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/containerd/errdefs"
	"go.etcd.io/bbolt"

	"brig/internal/sandbox"
	"brig/nodeagent/record"
)

// Add keeps a new record. If its owner used its request id before, that record is
// returned and nothing changes; if its name belongs to a live sandbox of the owner,
// the error is an ErrAlreadyExists.
func (s *Store) Add(r record.Record) (earlier *record.Record, err error) {
	return s.add(r, func(*bbolt.Tx) error { return nil })
}

// add is Add with something else in its transaction, unless there is an earlier record.
func (s *Store) add(r record.Record, also func(*bbolt.Tx) error) (earlier *record.Record, err error) {
	if err := s.reserve(); err != nil {
		return nil, err
	}
	err = s.update(func(tx *bbolt.Tx) error {
		if id := tx.Bucket(requestBucket).Get(requestKey(&r)); r.Request.RequestID != "" && id != nil {
			found, err := get(tx, sandbox.ID(id))
			earlier = &found
			return err
		}
		if id := tx.Bucket(nameBucket).Get(nameKey(&r)); r.Request.Name != "" && id != nil {
			return errdefs.ErrAlreadyExists.WithMessage(fmt.Sprintf("the name %s belongs to running sandbox %s: end that one, or choose another name", r.Request.Name, id))
		}
		if err := also(tx); err != nil {
			return err
		}
		if err := index(tx, &r); err != nil {
			return err
		}
		if err := put(tx, &r); err != nil {
			return err
		}
		return s.copyNew(&r)
	})
	if err != nil {
		err = errors.Join(err, s.dropCopy(r.ID))
	}
	return earlier, err
}

// index a record by its request id.
func index(tx *bbolt.Tx, r *record.Record) error {
	if r.Request.RequestID == "" {
		return nil
	}
	return tx.Bucket(requestBucket).Put(requestKey(r), []byte(r.ID))
}

// Update changes a record by edit, unless edit returns an error, and returns it.
func (s *Store) Update(id sandbox.ID, edit func(*record.Record) error) (record.Record, error) {
	var r record.Record
	err := s.update(func(tx *bbolt.Tx) (err error) {
		if r, err = get(tx, id); err != nil {
			return err
		}
		if err := edit(&r); err != nil {
			return err
		}
		if err := put(tx, &r); err != nil {
			return err
		}
		s.copyAgain(&r)
		return nil
	})
	return r, err
}

// Delete forgets a record. One that is not there is no error.
func (s *Store) Delete(id sandbox.ID) error {
	return s.update(func(tx *bbolt.Tx) error {
		r, err := get(tx, id)
		if errdefs.IsNotFound(err) {
			return nil
		}
		if err != nil {
			return err
		}
		if r.Request.RequestID != "" {
			if err := tx.Bucket(requestBucket).Delete(requestKey(&r)); err != nil {
				return err
			}
		}
		if err := freeName(tx, &r); err != nil {
			return err
		}
		return tx.Bucket(sandboxBucket).Delete([]byte(id))
	})
}

// Get returns the record of a sandbox, or an ErrNotFound.
func (s *Store) Get(id sandbox.ID) (r record.Record, err error) {
	err = s.view(func(tx *bbolt.Tx) error {
		r, err = get(tx, id)
		return err
	})
	return r, err
}

// All returns every record, in no order that means anything.
func (s *Store) All() (all []record.Record, err error) {
	err = s.view(func(tx *bbolt.Tx) error {
		return tx.Bucket(sandboxBucket).ForEach(func(id, data []byte) error {
			r, err := decode(id, data)
			all = append(all, r)
			return err
		})
	})
	return all, err
}

func get(tx *bbolt.Tx, id sandbox.ID) (record.Record, error) {
	data := tx.Bucket(sandboxBucket).Get([]byte(id))
	if data == nil {
		return record.Record{}, errdefs.ErrNotFound.WithMessage(fmt.Sprintf("there is no sandbox %s", id))
	}
	return decode([]byte(id), data)
}

func put(tx *bbolt.Tx, r *record.Record) error {
	data, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode record %s: %w", r.ID, err)
	}
	if r.Live() && r.Request.Name != "" {
		if err := tx.Bucket(nameBucket).Put(nameKey(r), []byte(r.ID)); err != nil {
			return err
		}
	} else if err := freeName(tx, r); err != nil {
		return err
	}
	return tx.Bucket(sandboxBucket).Put([]byte(r.ID), seal(data))
}

// freeName leaves the name alone if another sandbox has it by now.
func freeName(tx *bbolt.Tx, r *record.Record) error {
	names := tx.Bucket(nameBucket)
	if r.Request.Name == "" || !bytes.Equal(names.Get(nameKey(r)), []byte(r.ID)) {
		return nil
	}
	return names.Delete(nameKey(r))
}

func decode(id, data []byte) (record.Record, error) { return decodeAs(version, id, data) }

// decodeAs decodes a value of a file of that version.
func decodeAs(from int, id, data []byte) (r record.Record, err error) {
	if from > 1 {
		if data, err = unseal(data); err != nil {
			return r, fmt.Errorf("decode record %s: %w", id, err)
		}
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&r); err != nil {
		return r, fmt.Errorf("decode record %s: %w", id, err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return r, fmt.Errorf("decode record %s: more than one value", id)
	}
	return r, nil
}

func requestKey(r *record.Record) []byte { return key(r.Owner, r.Request.RequestID) }
func nameKey(r *record.Record) []byte    { return key(r.Owner, r.Request.Name) }

func key(owner uint32, s string) []byte { return fmt.Appendf(nil, "%d/%s", owner, s) }
