package main

import (
	"os"
	"testing"
)

func TestDescends(t *testing.T) {
	parents := map[int]int{2: 1, 10: 2, 11: 10, 12: 2}
	for pid, want := range map[int]bool{10: true, 11: true, 12: true, 2: false, 1: false} {
		if got := descends(parents, pid, 2); got != want {
			t.Errorf("descends(%d) = %v", pid, got)
		}
	}
}

func TestFootprintOfOurselves(t *testing.T) {
	_, bytes, err := memory(os.Getpid())
	if err != nil || bytes < 1<<20 {
		t.Errorf("%d bytes, %v", bytes, err)
	}
}
