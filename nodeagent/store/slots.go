package store

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/containerd/errdefs"
	"go.etcd.io/bbolt"

	"brig/internal/sandbox"
	"brig/nodeagent/record"
)

// Slots have a bucket of their own: no question about sandboxes finds one, and to a brigd
// that does not know them they are what no record speaks of, which it removes.

// PutSlot keeps a slot as it is now.
func (s *Store) PutSlot(slot record.Slot) error {
	data, err := json.Marshal(slot)
	if err != nil {
		return fmt.Errorf("encode slot %s: %w", slot.ID, err)
	}
	return s.update(func(tx *bbolt.Tx) error {
		return tx.Bucket(slotBucket).Put([]byte(slot.ID), seal(data))
	})
}

// DeleteSlot forgets one. One that is not there is no error.
func (s *Store) DeleteSlot(id sandbox.ID) error {
	return s.update(func(tx *bbolt.Tx) error { return tx.Bucket(slotBucket).Delete([]byte(id)) })
}

// Slots returns all of them, in no order that means anything.
func (s *Store) Slots() (all []record.Slot, err error) {
	err = s.view(func(tx *bbolt.Tx) error {
		return tx.Bucket(slotBucket).ForEach(func(id, sealed []byte) error {
			slot, err := decodeSlot(id, sealed)
			all = append(all, slot)
			return err
		})
	})
	return all, err
}

// HasSlot tells whether there is one with that id.
func (s *Store) HasSlot(id sandbox.ID) (has bool, err error) {
	err = s.view(func(tx *bbolt.Tx) error {
		has = tx.Bucket(slotBucket).Get([]byte(id)) != nil
		return nil
	})
	return has, err
}

// Claim is Add for a record that takes the place of the slot with its id, in one
// transaction. If there is no such slot the error is an ErrFailedPrecondition.
func (s *Store) Claim(r record.Record) (earlier *record.Record, err error) {
	return s.add(r, func(tx *bbolt.Tx) error {
		if tx.Bucket(slotBucket).Get([]byte(r.ID)) == nil {
			return errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf("there is no slot %s", r.ID))
		}
		return tx.Bucket(slotBucket).Delete([]byte(r.ID))
	})
}

func decodeSlot(id, sealed []byte) (slot record.Slot, err error) {
	data, err := unseal(sealed)
	if err == nil {
		d := json.NewDecoder(bytes.NewReader(data))
		d.DisallowUnknownFields()
		err = d.Decode(&slot)
	}
	if err == nil && string(slot.ID) != string(id) {
		err = fmt.Errorf("it is the record of %q", slot.ID)
	}
	if err != nil {
		return slot, fmt.Errorf("decode slot %s: %w", id, err)
	}
	return slot, nil
}
