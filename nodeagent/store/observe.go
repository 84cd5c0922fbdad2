package store

import (
	"time"

	"go.etcd.io/bbolt"
)

// Observe has the duration of every look and of every change told. It is called before the
// Store is shared.
func (s *Store) Observe(read, write func(time.Duration)) { s.read, s.written = read, write }

func (s *Store) view(look func(*bbolt.Tx) error) error {
	defer timed(s.read)()
	return s.db.View(look)
}

// timed returns what is called at the end.
func timed(tell func(time.Duration)) func() {
	if tell == nil {
		return func() {}
	}
	begin := time.Now()
	return func() { tell(time.Since(begin)) }
}
