package store

import (
	"github.com/containerd/errdefs"
	"go.etcd.io/bbolt"

	"brig/internal/sandbox"
	"brig/nodeagent/record"
)

// SetUsage records what sandboxes have used, in one transaction however many they are.
// Those that have ended, or are forgotten, have their final usage and are left alone.
func (s *Store) SetUsage(usage map[sandbox.ID]record.Usage) error {
	return s.update(func(tx *bbolt.Tx) error {
		for id, u := range usage {
			r, err := get(tx, id)
			if errdefs.IsNotFound(err) || err == nil && !r.Live() {
				continue
			}
			if err != nil {
				return err
			}
			r.Usage = u
			if err := put(tx, &r); err != nil {
				return err
			}
		}
		return nil
	})
}
