package store

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.etcd.io/bbolt"

	"brig/nodeagent/record"
)

// filled is a closed store with some records, as its bytes.
func filled(t *testing.T, path string) []byte {
	t.Helper()
	s := openAt(t, path)
	for i := range 40 {
		add(t, s, fresh(1000, fmt.Sprint("name-", i), fmt.Sprint("request-", i)))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestRefused: what is refused is left as it is, and the error says what to do.
func TestRefused(t *testing.T) {
	dir := t.TempDir()
	good := filled(t, filepath.Join(dir, "good.db"))
	const rebuild = "brigd --rebuild-store"
	for name, file := range map[string]struct {
		data []byte
		want string
	}{
		"empty":                  {nil, rebuild},
		"garbage":                {bytes.Repeat([]byte("garbage"), 4096), rebuild},
		"zeros":                  {make([]byte, len(good)), rebuild},
		"cut to a page":          {good[:4096], rebuild},
		"cut to the meta pages":  {good[:8192], rebuild},
		"cut to a third":         {good[:16384], rebuild},
		"a record's bit flipped": {bytes.ReplaceAll(good, []byte("name-1"), []byte("name-q")), rebuild},
		"a page overwritten":     {overwrite(good, []byte(`"request_id":"request-7"`)), rebuild},
		"of a later version":     {versioned(t, filepath.Join(dir, "3.db"), "3"), "start that brig"},
		"of no version":          {versioned(t, filepath.Join(dir, "x.db"), "x"), rebuild},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "brig.db")
			if err := os.WriteFile(path, file.data, 0o600); err != nil {
				t.Fatal(err)
			}
			s, err := Open(path)
			if err == nil {
				t.Fatal(s.Close())
			}
			if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), file.want) || !strings.Contains(err.Error(), "running sandboxes go on") {
				t.Errorf("error %v, want a refusal that says %q", err, file.want)
			}
			if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, file.data) {
				t.Errorf("the refused file was changed (%v)", err)
			}
		})
	}
}

// TestDamage flips every hundredth bit of a store, one at a time: whatever is hit, the
// file is refused, or all that is in it is what was put there.
func TestDamage(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "brig.db")
	good := filled(t, path)
	s := openAt(t, path)
	want, err := s.All()
	if err != nil {
		t.Fatal(err)
	}
	_ = s.Close()
	used := bytes.LastIndex(good, []byte("request-")) + 4096
	refused, flips := 0, 0
	for at := 0; at < min(used, len(good)); at += 997 {
		bad := bytes.Clone(good)
		bad[at] ^= 1 << (at % 8)
		path := filepath.Join(dir, "bad.db")
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		flips++
		s, err := Open(path)
		if err != nil {
			refused++
			if !errors.Is(err, ErrRefused) {
				t.Errorf("byte %d: %v", at, err)
			}
			continue
		}
		got, err := s.All()
		if err != nil {
			t.Errorf("byte %d: opened, then %v", at, err)
		} else if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
			t.Errorf("byte %d: -want +got\n%s", at, diff)
		}
		_ = s.Close()
	}
	t.Logf("%d of %d flipped bits refused, the others of no consequence", refused, flips)
	if refused == 0 {
		t.Error("no damage was noticed")
	}
}

// overwrite every page that has at in it.
func overwrite(data, at []byte) []byte {
	data = bytes.Clone(data)
	for i := bytes.Index(data, at); i >= 0; i = bytes.Index(data, at) {
		page := i / 4096 * 4096
		copy(data[page:page+4096], bytes.Repeat([]byte{0xff}, 4096))
	}
	return data
}

func versioned(t *testing.T, path, version string) []byte {
	t.Helper()
	s := openAt(t, path)
	if err := s.db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(metaBucket).Put(versionKey, []byte(version)) }); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestInUse: a second brigd is refused and changes nothing.
func TestInUse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "brig.db")
	openAt(t, path)
	if _, err := Open(path); err == nil || !strings.Contains(err.Error(), "is in use") || errors.Is(err, ErrRefused) {
		t.Errorf("error %v, want one that says that it is in use", err)
	}
	if _, err := Rebuild(path, t.TempDir(), "record.json", true); err == nil || !strings.Contains(err.Error(), "stop brigd first") {
		t.Errorf("rebuild: %v", err)
	}
}

// TestVersion1 is brought to this version, and kept for who goes back.
func TestVersion1(t *testing.T) {
	path := filepath.Join(t.TempDir(), "brig.db")
	s := openAt(t, path)
	want := fresh(1000, "web", "key")
	add(t, s, want)
	err := s.db.Update(func(tx *bbolt.Tx) error { // as version 1 wrote it
		b := tx.Bucket(sandboxBucket)
		data := bytes.Clone(b.Get([]byte(want.ID)))[4:]
		return errors.Join(b.Put([]byte(want.ID), data), tx.Bucket(metaBucket).Put(versionKey, []byte("1")))
	})
	if err := errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		s := openAt(t, path)
		got, err := s.All()
		if diff := cmp.Diff([]record.Record{want}, got, cmpopts.EquateComparable(netip.Addr{})); err != nil || diff != "" {
			t.Errorf("%v, -want +got\n%s", err, diff)
		}
		_ = s.Close()
	}
	old, err := bbolt.Open(path+".v1", 0o600, &bbolt.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	if err := old.View(func(tx *bbolt.Tx) error {
		if v, err := versionOf(tx); v != 1 {
			t.Errorf("the copy has version %d, %v", v, err)
		}
		return walk(tx, 1)
	}); err != nil {
		t.Error(err)
	}
}
