package store

import (
	"time"

	"go.etcd.io/bbolt"
)

// Observe has the duration of every look and of every change told. It is called before the
// Store is shared.
func (s *Store) Observe(read, write func(time.Duration)) { s.read, s.written = read, write }

func (s *Store) update(change func(*bbolt.Tx) error) error {
	if s.written != nil {
		begin := time.Now()
		defer func() { s.written(time.Since(begin)) }()
	}
	return s.db.Update(change)
}

func (s *Store) view(look func(*bbolt.Tx) error) error {
	if s.read != nil {
		begin := time.Now()
		defer func() { s.read(time.Since(begin)) }()
	}
	return s.db.View(look)
}
