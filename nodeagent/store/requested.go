package store

import (
	"go.etcd.io/bbolt"

	"brig/internal/sandbox"
	"brig/nodeagent/record"
)

// Requested returns the record that the owner's request id of r made before, or nil.
func (s *Store) Requested(r record.Record) (earlier *record.Record, err error) {
	if r.Request.RequestID == "" {
		return nil, nil
	}
	err = s.db.View(func(tx *bbolt.Tx) error {
		id := tx.Bucket(requestBucket).Get(requestKey(&r))
		if id == nil {
			return nil
		}
		found, err := get(tx, sandbox.ID(id))
		earlier = &found
		return err
	})
	return earlier, err
}
