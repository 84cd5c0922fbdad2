package store

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"brig/internal/baddisk"
	"brig/nodeagent/record"
)

// TestFullDisk: nothing new is acknowledged, ends and removals are, and when there is
// room again it goes on.
func TestFullDisk(t *testing.T) {
	disk := baddisk.Small(t, "6m", "")
	path := filepath.Join(disk, "brig.db")
	s := openAt(t, path)
	var made []record.Record
	for i := range 100 {
		r := fresh(1, fmt.Sprint("name-", i), "")
		add(t, s, r)
		made = append(made, r)
	}
	free := baddisk.Fill(t, disk)
	var refused int
	for i := 0; i < 1000 && refused < 3; i++ { // half of what was set aside is for new ones, too
		r := fresh(1, "", "")
		r.Request.Workdir = strings.Repeat("/", 4000)
		if _, err := s.Add(r); err != nil {
			if !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), "free some disk space") {
				t.Fatalf("add: %v", err)
			}
			if _, err := s.Get(r.ID); !errdefs.IsNotFound(err) {
				t.Fatalf("a record that was not acknowledged is there: %v", err)
			}
			refused++
		}
	}
	if refused == 0 {
		t.Error("the disk is full and everything is acknowledged")
	}
	for _, r := range made {
		if _, err := s.Update(r.ID, end); err != nil {
			t.Fatalf("end: %v", err)
		}
	}
	for _, r := range made[:50] {
		if err := s.Delete(r.ID); err != nil {
			t.Fatalf("remove: %v", err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openAt(t, path) // while it is full
	for i, r := range made {
		_, err := s.Get(r.ID)
		if (i < 50) != errdefs.IsNotFound(err) {
			t.Errorf("record %d after a restart: %v", i, err)
		}
	}
	free()
	add(t, s, fresh(1, "", ""))
}

// TestFailingDisk: after a write that failed nothing is acknowledged, and what was
// acknowledged before is still answered.
func TestFailingDisk(t *testing.T) {
	disk, fail := baddisk.Failing(t)
	s := openAt(t, filepath.Join(disk, "brig.db"))
	before := fresh(1, "", "")
	add(t, s, before)
	fail()
	var failed error
	for range 2000 { // the first ones go to places that the device has
		if _, failed = s.Add(fresh(1, "", "")); failed != nil {
			break
		}
	}
	if failed == nil {
		t.Fatal("the device fails and everything is acknowledged")
	}
	t.Log(failed)
	if err := s.Probe(); err == nil || !strings.Contains(err.Error(), "restart brigd") {
		t.Errorf("probe: %v", err)
	}
	if _, err := s.Add(fresh(1, "", "")); err == nil {
		t.Error("a write after one that failed was acknowledged")
	}
	if got, err := s.Get(before.ID); err != nil || got.ID != before.ID {
		t.Errorf("%+v, %v", got, err)
	}
}
