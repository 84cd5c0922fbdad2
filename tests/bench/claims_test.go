package main

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestJudge(t *testing.T) {
	all := map[string]series{}
	for _, s := range []series{
		{measure: "m", variant: "ours", unit: "ms", samples: []float64{2, 2, 2}},
		{measure: "m", variant: "noisy", unit: "ms", samples: []float64{1, 1, 1, 9, 9}},
		{measure: "m", variant: "peer", unit: "ms", samples: []float64{4, 4, 4}},
		{measure: "m", variant: "fails", unit: "ms", failures: []error{errors.New("no")}},
	} {
		all[s.label()] = s
	}
	for _, tc := range []struct {
		c    claim
		want string
	}{
		{claim{ours: "ours", peer: "peer", must: atMost(0.5)}, "w|ours: 2.00 ms|peer: 4.00 ms|0.50|0.50|0.50|≤ 0.5|yes"},
		{claim{ours: "ours", peer: "peer", must: atMost(0.4)}, "w|ours: 2.00 ms|peer: 4.00 ms|0.50|0.50|0.50|≤ 0.4|no"},
		{claim{ours: "ours", peer: "peer", must: atLeast(0.5)}, "w|ours: 2.00 ms|peer: 4.00 ms|0.50|0.50|0.50|≥ 0.5|yes"},
		{claim{ours: "ours", peer: "peer"}, "w|ours: 2.00 ms|peer: 4.00 ms|0.50|0.50|0.50|-|-"},
		// The median is within the bound, the worse end of its interval is not.
		{claim{ours: "noisy", peer: "peer", must: atMost(0.5)}, "w|noisy: 1.00 ms|peer: 4.00 ms|0.25|0.25|2.25|≤ 0.5|no"},
		{claim{ours: "ours", stat: middle, unit: "ms", must: atMost(3)}, "w (ms)|ours: 2.00 ms|-|2.00|2.00|2.00|≤ 3|yes"},
		{claim{ours: "ours", peer: "absent", must: atMost(1)}, "w|ours: 2.00 ms|absent|-|-|-|≤ 1|not measured"},
		{claim{ours: "fails", peer: "peer", must: atMost(1)}, "w|fails|peer: 4.00 ms|-|-|-|≤ 1|not measured"},
	} {
		tc.c.says, tc.c.of = "w", "m"
		got := strings.Join(tc.c.judge(rand.New(rand.NewPCG(1, 2)), all).fields(), "|")
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%+v, -want +got\n%s", tc.c, diff)
		}
	}
}

func TestStatistics(t *testing.T) {
	ours, peer := make([]float64, 101), []float64{1, 10, 100}
	for i := range ours {
		ours[i] = float64(i)
	}
	for s, want := range map[stat]float64{ratioOfMedians: 5, middle: 50, tail: 99, tailOverMedian: 1.98} {
		if got := s.of(ours, peer); got != want {
			t.Errorf("statistic %d: %v, want %v", s, got, want)
		}
	}
}

// A quick run fails when a claim was not measured or something failed.
func TestWhatMakesARunFail(t *testing.T) {
	whole := report{Summary: []judged{{Holds: "no"}, {Holds: "yes"}}}
	if err := whole.failed(); err != nil {
		t.Error(err)
	}
	for _, r := range []report{{Summary: []judged{{Measure: "x", Holds: notMeasured}}}, {Errors: []string{"x"}}} {
		if err := r.failed(); err == nil {
			t.Errorf("%+v passed", r)
		}
	}
}
