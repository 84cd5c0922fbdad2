package store

import (
	"path/filepath"
	"testing"

	"github.com/containerd/errdefs"

	"brig/internal/sandbox"
	"brig/nodeagent/record"
)

func TestSlots(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	slots := func(want int) {
		t.Helper()
		if all, err := s.Slots(); err != nil || len(all) != want {
			t.Fatalf("%d slots, %v; want %d", len(all), err, want)
		}
	}
	id := sandbox.NewID()
	for _, waiting := range []bool{false, true} {
		if err := s.PutSlot(record.Slot{ID: id, Waiting: waiting, Shape: record.Shape{MemoryMiB: 5}}); err != nil {
			t.Fatal(err)
		}
	}
	slots(1)
	if all, err := s.All(); err != nil || len(all) != 0 {
		t.Errorf("a slot is listed: %v, %v", all, err)
	}
	if _, err := s.Get(id); !errdefs.IsNotFound(err) {
		t.Errorf("a slot is found: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = Open(path); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	slots(1)

	// A claim that is refused leaves the slot as it was; one that is not leaves none.
	named := record.Record{ID: sandbox.NewID(), State: sandbox.Running, Request: record.Request{Name: "a"}}
	if _, err := s.Add(named); err != nil {
		t.Fatal(err)
	}
	claim := record.Record{ID: id, State: sandbox.Creating, Request: record.Request{Name: "a", RequestID: "r"}}
	if _, err := s.Claim(claim); !errdefs.IsAlreadyExists(err) {
		t.Errorf("a claim with a name that is taken: %v", err)
	}
	slots(1)
	claim.Request.Name = "b"
	if earlier, err := s.Claim(claim); err != nil || earlier != nil {
		t.Errorf("claim: %v, %v", earlier, err)
	}
	slots(0)
	if r, err := s.Get(id); err != nil || r.Request.Name != "b" {
		t.Errorf("claimed: %+v, %v", r, err)
	}
	again := record.Record{ID: sandbox.NewID(), State: sandbox.Creating, Request: record.Request{RequestID: "r"}}
	if err := s.PutSlot(record.Slot{ID: again.ID}); err != nil {
		t.Fatal(err)
	}
	if earlier, err := s.Claim(again); err != nil || earlier == nil || earlier.ID != id {
		t.Errorf("a claim that was made before: %+v, %v", earlier, err)
	}
	slots(1)
	if err := s.DeleteSlot(again.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Claim(record.Record{ID: again.ID}); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("a claim of no slot: %v", err)
	}
}
