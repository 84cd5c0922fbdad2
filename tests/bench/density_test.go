package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Samples of one name come together, and series of one measure stand together.
func TestMerge(t *testing.T) {
	got := merge([]series{
		{measure: "m", variant: "a", samples: []float64{1}}, {measure: "n", variant: "a", samples: []float64{2}},
		{measure: "m", variant: "b", samples: []float64{3}}, {measure: "m", variant: "a", samples: []float64{4}},
	})
	want := []series{
		{measure: "m", variant: "a", samples: []float64{1, 4}}, {measure: "m", variant: "b", samples: []float64{3}},
		{measure: "n", variant: "a", samples: []float64{2}},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(series{})); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}
