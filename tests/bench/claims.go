package main

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
)

// claim is a row of the summary: a figure of ours, by itself or over a peer's, and what
// it must be.
type claim struct {
	says string // the row's name
	of   string // the series' measure; empty: the entry's
	ours string // the variant
	peer string // empty: the figure stands by itself
	stat stat
	unit string // of a figure that stands by itself
	must bound
}

// stat is a figure that is made of samples of ours, and of the peer's where there is one.
// The zero value is the ratio of the medians.
type stat int

const (
	ratioOfMedians stat = iota
	middle              // the median
	tail                // the 99th percentile
	tailOverMedian
)

func (s stat) of(ours, peer []float64) float64 {
	sorted := slices.Sorted(slices.Values(ours))
	switch s {
	case middle:
		return quantile(sorted, 0.5)
	case tail:
		return quantile(sorted, 0.99)
	case tailOverMedian:
		return quantile(sorted, 0.99) / quantile(sorted, 0.5)
	}
	return quantile(sorted, 0.5) / median(peer)
}

// bound of a figure; the zero value is none. The worse end of the figure's interval
// counts.
type bound struct {
	value float64
	least bool // the figure must be at least value; otherwise at most
}

func atMost(v float64) bound  { return bound{value: v} }
func atLeast(v float64) bound { return bound{value: v, least: true} }

func (b bound) holds(i interval) string {
	switch {
	case b.value == 0:
		return nothingMust
	case b.least && i.Low >= b.value, !b.least && i.High <= b.value:
		return "yes"
	}
	return "no"
}

func (b bound) String() string {
	switch {
	case b.value == 0:
		return "-"
	case b.least:
		return "≥ " + strconv.FormatFloat(b.value, 'g', -1, 64)
	}
	return "≤ " + strconv.FormatFloat(b.value, 'g', -1, 64)
}

// judged is a claim with what came of it: a row of the summary.
type judged struct {
	Measure string   `json:"measure"`
	Ours    string   `json:"ours"` // with its median
	Peer    string   `json:"peer"`
	Figure  interval `json:"figure"` // the ratio, or what the measure names
	Must    string   `json:"must"`
	Holds   string   `json:"holds"`
}

// What Holds is beside yes and no.
const (
	nothingMust = "-"
	notMeasured = "not measured"
)

// judge the claim by the series of a run.
func (c claim) judge(rng *rand.Rand, all map[string]series) judged {
	ours, peer := all[label(c.of, c.ours)], all[label(c.of, c.peer)]
	j := judged{Measure: c.says, Ours: ours.String(), Peer: peer.String(), Must: c.must.String(), Holds: notMeasured}
	if c.unit != "" {
		j.Measure += " (" + c.unit + ")"
	}
	if len(ours.samples) == 0 {
		j.Ours = c.ours
	}
	if len(peer.samples) == 0 {
		j.Peer = cmp.Or(c.peer, "-")
	}
	if len(ours.samples) == 0 || c.peer != "" && len(peer.samples) == 0 {
		return j
	}
	j.Figure = bootstrap(rng, c.stat.of, ours.samples, peer.samples)
	j.Holds = c.must.holds(j.Figure)
	return j
}

// label of a series in a run.
func label(measure, variant string) string { return measure + " / " + variant }

// fields of the row in the summary's columns.
func (j judged) fields() []string {
	row := []string{j.Measure, j.Ours, j.Peer, "-", "-", "-", j.Must, j.Holds}
	if j.Holds != notMeasured {
		for i, v := range []float64{j.Figure.Value, j.Figure.Low, j.Figure.High} {
			row[3+i] = number(v)
		}
	}
	return row
}

// number to three or more digits, and never with an exponent.
func number(v float64) string {
	switch abs := math.Abs(v); {
	case abs >= 1000:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case abs >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}
