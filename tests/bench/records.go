package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"brig/internal/sandbox"
	"brig/nodeagent/record"
	"brig/nodeagent/store"
)

// recorded is the name of a measure of the store; its records are stand-ins for sandboxes
// that nobody could run so many of.
func recorded(what string) string { return "the store: " + what }

// storeOperations are what a create, a get, a list and a restart need of the store.
var storeOperations = []string{"add", "get", "update", "list", "delete", "open"}

// measureRecords is brigd's store with more and more records in it.
func measureRecords(ctx context.Context, s *session, o options) (all []series, err error) {
	path := filepath.Join(s.o.dir, "records", "brig.db")
	db, err := store.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var filled int
	for i, size := range o.records {
		for ; filled < size; filled++ {
			if _, err := db.Add(standIn()); err != nil {
				return merge(all), err
			}
		}
		m := storeMeasure{db: db, path: path}
		at := make([]series, len(storeOperations))
		for j, what := range storeOperations {
			at[j] = series{measure: recorded(what), variant: fmt.Sprintf("%d records", size), unit: "ms", ours: i > 0}
		}
		err := interleave(ctx, s.rng, 1, 1+o.rounds, fmt.Sprintf("a store of %d records", size), s.progress, func(_, round int) {
			for j, do := range m.operations() {
				began := time.Now()
				err := do()
				at[j].take(round, time.Since(began), time.Millisecond, err)
			}
		})
		db, all = m.db, append(all, at...)
		if err != nil {
			return merge(all), err
		}
	}
	return merge(all), nil
}

// storeMeasure is one life of a record in a store that is opened again at its end.
type storeMeasure struct {
	db   *store.Store
	path string
}

func (m *storeMeasure) operations() []func() error {
	r := standIn()
	return []func() error{
		func() error { _, err := m.db.Add(r); return err },
		func() error { _, err := m.db.Get(r.ID); return err },
		func() error {
			_, err := m.db.Update(r.ID, func(r *record.Record) error { r.State = sandbox.Running; return nil })
			return err
		},
		func() error { _, err := m.db.All(); return err },
		func() error { return m.db.Delete(r.ID) },
		func() (err error) {
			if err := m.db.Close(); err != nil {
				return err
			}
			m.db, err = store.Open(m.path)
			return err
		},
	}
}

// standIn is the record of a sandbox that is not there.
func standIn() record.Record {
	id := sandbox.NewID()
	return record.Record{
		ID: id, Owner: 1000, State: sandbox.Creating, CreatedAt: time.Now().UTC(),
		Request: record.Request{Image: imageName, Argv: talks, Name: string(id), RequestID: string(id)},
	}
}

// recordClaims compare the most records with the fewest.
func recordClaims(o options) (claims []claim) {
	first, last := o.records[0], o.records[len(o.records)-1]
	for _, what := range storeOperations {
		claims = append(claims, claim{
			says: fmt.Sprintf("store: %s, %d records against %d", what, last, first), of: recorded(what),
			ours: fmt.Sprintf("%d records", last), peer: fmt.Sprintf("%d records", first),
		})
	}
	return claims
}
