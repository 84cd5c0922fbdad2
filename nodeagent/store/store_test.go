package store

import (
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"go.etcd.io/bbolt"

	"brig/internal/sandbox"
	"brig/nodeagent/record"
)

func openAt(t *testing.T, path string) *Store {
	t.Helper()
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func fresh(owner uint32, name, requestID string) record.Record {
	return record.Record{
		ID: sandbox.NewID(), Owner: owner, State: sandbox.Creating, CreatedAt: time.Now().UTC().Truncate(time.Second),
		Request: record.Request{Name: name, RequestID: requestID, Image: "busybox", Argv: []string{"sh"}, Env: map[string]string{"A": "b"}},
	}
}

func add(t *testing.T, s *Store, r record.Record) {
	t.Helper()
	if earlier, err := s.Add(r); err != nil || earlier != nil {
		t.Fatalf("add: %v, %v", earlier, err)
	}
}

func end(r *record.Record) error {
	return r.End(record.Exit{Code: 3, Reason: sandbox.ReasonExited})
}

func TestARecordSurvivesTheProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state", "brig.db")
	s := openAt(t, path)
	r := fresh(1000, "web", "key")
	add(t, s, r)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := openAt(t, path).Get(r.ID)
	if err != nil || !reflect.DeepEqual(got, r) {
		t.Errorf("got %+v, %v\nwant %+v", got, err, r)
	}
}

func TestNames(t *testing.T) {
	s := openAt(t, filepath.Join(t.TempDir(), "brig.db"))
	first := fresh(1000, "web", "")
	add(t, s, first)
	_, err := s.Add(fresh(1000, "web", ""))
	if !errdefs.IsAlreadyExists(err) || !strings.Contains(err.Error(), string(first.ID)) {
		t.Errorf("error %v", err)
	}
	add(t, s, fresh(1001, "web", "")) // another owner
	if _, err := s.Update(first.ID, end); err != nil {
		t.Fatal(err)
	}
	second := fresh(1000, "web", "")
	add(t, s, second)
	// The first one's end must not free the second one's name.
	if err := s.Delete(first.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Add(fresh(1000, "web", "")); !errdefs.IsAlreadyExists(err) {
		t.Errorf("error %v", err)
	}
}

func TestRequestIDs(t *testing.T) {
	s := openAt(t, filepath.Join(t.TempDir(), "brig.db"))
	first := fresh(1000, "", "key")
	add(t, s, first)
	earlier, err := s.Add(fresh(1000, "", "key"))
	if err != nil || earlier == nil || earlier.ID != first.ID {
		t.Errorf("repeated: %v, %v", earlier, err)
	}
	add(t, s, fresh(1001, "", "key")) // another owner's key
	if err := s.Delete(first.ID); err != nil {
		t.Fatal(err)
	}
	add(t, s, fresh(1000, "", "key"))
}

func TestAnEditThatFailsChangesNothing(t *testing.T) {
	s := openAt(t, filepath.Join(t.TempDir(), "brig.db"))
	r := fresh(1000, "web", "")
	add(t, s, r)
	if _, err := s.Update(r.ID, func(r *record.Record) error { r.Owner = 0; return end(&record.Record{}) }); err == nil {
		t.Error("no error")
	}
	if got, err := s.Get(r.ID); err != nil || got.Owner != 1000 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestUnknownSandbox(t *testing.T) {
	s := openAt(t, filepath.Join(t.TempDir(), "brig.db"))
	if _, err := s.Get("sb-none"); !errdefs.IsNotFound(err) {
		t.Error(err)
	}
	if _, err := s.Update("sb-none", end); !errdefs.IsNotFound(err) {
		t.Error(err)
	}
	if err := s.Delete("sb-none"); err != nil {
		t.Error(err)
	}
}

func TestARecordOfAnotherVersionIsAnError(t *testing.T) {
	s := openAt(t, filepath.Join(t.TempDir(), "brig.db"))
	for _, data := range []string{`{"id":"sb-x","colour":"red"}`, `{"id":"sb-x"} {}`, `{`} {
		err := s.db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(sandboxBucket).Put([]byte("sb-x"), seal([]byte(data))) })
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Get("sb-x"); err == nil {
			t.Errorf("%s was read", data)
		}
	}
}
