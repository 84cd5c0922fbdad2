package pool

import (
	"fmt"
	"testing"
	"time"

	"brig/internal/config"
	"brig/nodeagent/record"
)

func TestTarget(t *testing.T) {
	c := config.Pool{Size: 2, Max: 5}
	for _, tc := range []struct {
		name    string
		asked   []time.Duration
		now     time.Duration
		waiting int
		want    int
	}{
		{"nobody asked", nil, time.Hour, 2, 2},
		{"fewer than are configured", []time.Duration{60 * time.Second}, 61 * time.Second, 2, 2},
		{"a rush", []time.Duration{1, 2, 3, 4}, 5, 2, 4},
		{"a rush beyond the most", []time.Duration{1, 2, 3, 4, 5, 6, 7}, 8, 2, 5},
		{"soon after it", []time.Duration{1, 2, 3, 4}, 30 * time.Second, 4, 4},
		{"not refilled after it", []time.Duration{1, 2, 3, 4}, 30 * time.Second, 3, 3},
		{"calm", []time.Duration{1, 2, 3, 4}, 2 * time.Minute, 4, 2},
	} {
		var d demand
		for _, at := range tc.asked {
			d.note(at, record.Shape{})
		}
		if got := d.target(c, tc.now, tc.waiting); got != tc.want {
			t.Errorf("%s: %d; want %d", tc.name, got, tc.want)
		}
	}
}

func TestShapes(t *testing.T) {
	usual, small, large := record.Shape{}, record.Shape{MemoryMiB: 64}, record.Shape{CPUs: 4, MemoryMiB: 512}
	for _, tc := range []struct {
		name  string
		asked []record.Shape
		n     int
		there map[record.Shape]int
		want  map[record.Shape]int
	}{
		{"nobody asked", nil, 2, nil, map[record.Shape]int{usual: 2}},
		{"one shape", []record.Shape{small, small}, 2, map[record.Shape]int{usual: 2}, map[record.Shape]int{small: 2}},
		{"in proportion", []record.Shape{small, small, large}, 3, nil, map[record.Shape]int{small: 2, large: 1}},
		{"the more wanted one", []record.Shape{small, small, large}, 1, map[record.Shape]int{large: 1}, map[record.Shape]int{small: 1}},
		{"in turns, the one that is there", []record.Shape{small, large, small, large}, 1, map[record.Shape]int{small: 1}, map[record.Shape]int{small: 1}},
		{"none", []record.Shape{small}, 0, nil, map[record.Shape]int{}},
	} {
		var d demand
		for i, s := range tc.asked {
			d.note(time.Duration(i), s)
		}
		if got := d.shapes(tc.n, usual, tc.there); fmt.Sprint(got) != fmt.Sprint(tc.want) {
			t.Errorf("%s: %v; want %v", tc.name, got, tc.want)
		}
	}
}

// What is remembered is bounded, and long ago counts for nothing.
func TestNoteForgets(t *testing.T) {
	var d demand
	for i := range 10_000 {
		d.note(time.Duration(i)*time.Second, record.Shape{})
	}
	if len(d.asked) > 3*remembered {
		t.Errorf("%d are remembered", len(d.asked))
	}
}
