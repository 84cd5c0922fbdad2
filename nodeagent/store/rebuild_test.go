package store

import (
	"cmp"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	diff "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"brig/internal/sandbox"
	"brig/nodeagent/record"
)

const copyFile = "record.json"

// node is a store whose records are copied into folders.
func node(t *testing.T) (s *Store, path, folders string) {
	t.Helper()
	dir := t.TempDir()
	path, folders = filepath.Join(dir, "brig.db"), filepath.Join(dir, "sandboxes")
	s = openAt(t, path)
	s.Copy(func(id sandbox.ID) string { return filepath.Join(folders, string(id), copyFile) }, slog.New(slog.DiscardHandler))
	return s, path, folders
}

func sorted(t *testing.T, s *Store) []record.Record {
	t.Helper()
	all, err := s.All()
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(all, func(a, b record.Record) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

// TestRebuild: a store that was damaged is made anew of the copies and has every record
// and index that it had.
func TestRebuild(t *testing.T) {
	s, path, folders := node(t)
	running, ended := fresh(1000, "web", "key"), fresh(1001, "job", "")
	add(t, s, running)
	add(t, s, ended)
	if _, err := s.Update(running.ID, func(r *record.Record) error {
		r.State, r.Tunnels = sandbox.Running, []record.Tunnel{{Port: record.Port{Sandbox: 80, Kind: record.TLS}, Listen: 4000}}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Update(ended.ID, end); err != nil {
		t.Fatal(err)
	}
	want := sorted(t, s)
	_ = s.Close()
	if err := os.WriteFile(path, []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	done, err := Rebuild(path, folders, copyFile, false)
	if err != nil || done.Records != 2 || len(done.Lost) != 0 {
		t.Fatalf("%+v, %v", done, err)
	}
	if old, err := os.ReadFile(done.Kept); err != nil || string(old) != "damaged" {
		t.Errorf("the old file: %q, %v", old, err)
	}
	s = openAt(t, path)
	if d := diff.Diff(want, sorted(t, s), cmpopts.EquateComparable(netip.Addr{})); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
	if earlier, err := s.Add(fresh(1000, "", "key")); err != nil || earlier == nil || earlier.ID != running.ID {
		t.Errorf("the same request again: %+v, %v", earlier, err)
	}
	if _, err := s.Add(fresh(1000, "web", "")); err == nil {
		t.Error("a name in use was given again")
	}
	add(t, s, fresh(1001, "job", ""))
}

// TestRebuildWithoutACopy does nothing unless it is forced.
func TestRebuildWithoutACopy(t *testing.T) {
	s, path, folders := node(t)
	whole, torn, none := fresh(1, "", ""), fresh(1, "", ""), fresh(1, "", "")
	for _, r := range []record.Record{whole, torn, none} {
		add(t, s, r)
	}
	_ = s.Close()
	if err := os.WriteFile(filepath.Join(folders, string(torn.ID), copyFile), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(folders, string(none.ID), copyFile)); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Rebuild(path, folders, copyFile, false)
	if err == nil || !strings.Contains(err.Error(), string(torn.ID)) || !strings.Contains(err.Error(), string(none.ID)) || !strings.Contains(err.Error(), "--force") {
		t.Errorf("error %v, want both named", err)
	}
	if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
		t.Errorf("the store was changed (%v)", err)
	}
	if _, err = Rebuild(path, folders, copyFile, true); err != nil {
		t.Fatal(err)
	}
	if got := sorted(t, openAt(t, path)); len(got) != 1 || got[0].ID != whole.ID {
		t.Errorf("%+v", got)
	}
}

// TestCopyThatFails: a new record needs its copy, a change does not, and it is made later.
func TestCopyThatFails(t *testing.T) {
	s, path, folders := node(t)
	r := fresh(1, "", "")
	add(t, s, r)
	copied := filepath.Join(folders, string(r.ID), copyFile)
	// A folder where the new copy is to be written: not even root gets through.
	if err := os.Mkdir(copied+".new", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(copied+".new", "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Update(r.ID, end); err != nil {
		t.Fatalf("an end could not be recorded: %v", err)
	}
	if got, err := readCopy(copied, r.ID); err != nil || got.State != sandbox.Creating {
		t.Fatalf("%+v, %v; want the copy of before", got, err)
	}
	if err := os.RemoveAll(copied + ".new"); err != nil {
		t.Fatal(err)
	}
	if err := s.Recopy(); err != nil {
		t.Fatal(err)
	}
	if got, err := readCopy(copied, r.ID); err != nil || got.State != sandbox.Exited {
		t.Errorf("%+v, %v; want the end", got, err)
	}
	if err := os.RemoveAll(folders); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(folders, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Add(fresh(1, "", "")); err == nil {
		t.Error("a record was added without its copy")
	}
	if all := sorted(t, s); len(all) != 1 {
		t.Errorf("%d records in %s, want 1", len(all), path)
	}
}
