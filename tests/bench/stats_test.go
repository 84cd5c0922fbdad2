package main

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestQuantile(t *testing.T) {
	for _, tc := range []struct {
		samples []float64
		q, want float64
	}{
		{nil, 0.5, 0},
		{[]float64{7}, 0.99, 7},
		{[]float64{1, 2, 3}, 0.5, 2},
		{[]float64{1, 2, 3, 4}, 0.5, 2.5},
		{[]float64{0, 10}, 0.25, 2.5},
		{[]float64{1, 2, 3}, 1, 3},
	} {
		if got := quantile(tc.samples, tc.q); got != tc.want {
			t.Errorf("quantile(%v, %v) = %v, want %v", tc.samples, tc.q, got, tc.want)
		}
	}
}

func TestMedianLeavesItsInputAlone(t *testing.T) {
	in := []float64{3, 1, 2}
	if got := median(in); got != 2 || !slices.Equal(in, []float64{3, 1, 2}) {
		t.Errorf("median %v, input now %v", got, in)
	}
}

// TestRatioCoversTheTruth draws from two normal distributions whose medians stand
// 1 to 2 and counts how often the 95 % interval covers 0.5.
func TestRatioCoversTheTruth(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	draw := func(mean float64) []float64 {
		s := make([]float64, 40)
		for i := range s {
			s[i] = mean + rng.NormFloat64()*mean/10
		}
		return s
	}
	covered := 0
	for range 100 {
		r := ratio(rng, draw(10), draw(20))
		if r.Low > r.Value || r.Value > r.High {
			t.Fatalf("%v lies outside its own interval", r)
		}
		if r.Low <= 0.5 && 0.5 <= r.High {
			covered++
		}
	}
	if covered < 88 {
		t.Errorf("the interval covered the truth %d times of 100", covered)
	}
}

func TestRatioOfNothing(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	if got := ratio(rng, nil, []float64{1}); got != (interval{}) || math.IsNaN(got.Value) {
		t.Error(got)
	}
}
