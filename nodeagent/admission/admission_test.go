package admission

import (
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

// fill enters for uid until it is refused.
func fill(g *Gate, uid uint32) (leaves []func(), err error) {
	for {
		leave, err := g.Enter(uid)
		if err != nil {
			return leaves, err
		}
		leaves = append(leaves, leave)
	}
}

func TestGreedAlwaysLeavesRoom(t *testing.T) {
	g := New("connections", "quotas.connections", 0, 100)
	var got []int
	for uid := range uint32(8) {
		leaves, err := fill(g, 1000+uid)
		if !errdefs.IsResourceExhausted(err) {
			t.Fatal(err)
		}
		got = append(got, len(leaves))
	}
	want := []int{50, 25, 13, 6, 3, 2, 1, 0}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("each who takes all that it can gets %v; want %v", got, want)
		}
	}
}

func TestQuotaIsNotRoots(t *testing.T) {
	g := New("connections", "quotas.connections", 10, 100)
	leaves, err := fill(g, 1000)
	if len(leaves) != 10 || !strings.Contains(err.Error(), "you have 10 connections, and quotas.connections allows no more") {
		t.Errorf("%d, then %v; want 10, then the quota's name", len(leaves), err)
	}
	if leaves, err := fill(g, 0); len(leaves) != 45 || !strings.Contains(err.Error(), "the node has 45 connections left") {
		t.Errorf("root has %d, then %v; want half of what was left", len(leaves), err)
	}
}

func TestLeavingTwiceGivesOneBack(t *testing.T) {
	g := New("calls", "", 1, 100)
	leave, err := g.Enter(1000)
	if err != nil {
		t.Fatal(err)
	}
	leave()
	leave()
	if leaves, _ := fill(g, 1000); len(leaves) != 1 || g.all != 1 {
		t.Errorf("%d of a quota of 1, %d counted", len(leaves), g.all)
	}
}
