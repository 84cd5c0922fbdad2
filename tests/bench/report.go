package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"text/tabwriter"
)

// enoughForTail is how many samples a 99th percentile needs to mean anything.
const enoughForTail = 200

// row is one variant of one measure.
type row struct {
	Measure  string  `json:"measure"`
	Variant  string  `json:"variant"`
	N        int     `json:"n"`
	Failures int     `json:"failures"`
	Unit     string  `json:"unit"`
	Median   float64 `json:"median"`
	P90      float64 `json:"p90"`
	P99      float64 `json:"p99"`
	// Against is the peer's name and Ratio ours over the peer's; none for peers.
	Against string   `json:"against,omitempty"`
	Ratio   interval `json:"ratio,omitzero"`
}

// took is how long a measure was at it, in seconds.
type took struct {
	Measure string  `json:"measure"`
	Seconds float64 `json:"seconds"`
}

// report is everything that one run yielded.
type report struct {
	Machine machine              `json:"machine"`
	Rows    []row                `json:"rows"`
	Summary []judged             `json:"summary"`
	Samples map[string][]float64 `json:"samples"`
	Took    []took               `json:"took"`
	Errors  []string             `json:"errors,omitempty"`

	order  []series // as they were measured
	claims []claim
}

// add series: each of ours gets a row against each peer in the same measure, or one by
// itself.
func (r *report) add(rng *rand.Rand, all []series) {
	if r.Samples == nil {
		r.Samples = map[string][]float64{}
	}
	r.order = append(r.order, all...)
	for _, s := range all {
		r.Samples[s.label()] = s.samples
		for _, err := range s.failures {
			r.Errors = append(r.Errors, fmt.Sprintf("%s: %v", s.label(), err))
		}
		sorted := slices.Sorted(slices.Values(s.samples))
		base := row{
			Measure: s.measure, Variant: s.variant, N: len(sorted), Failures: len(s.failures), Unit: s.unit,
			Median: quantile(sorted, 0.5), P90: quantile(sorted, 0.9), P99: quantile(sorted, 0.99),
		}
		peers := peersOf(s, all)
		if len(peers) == 0 {
			r.Rows = append(r.Rows, base)
		}
		for _, peer := range peers {
			against := base
			against.Against, against.Ratio = peer.variant, ratio(rng, s.samples, peer.samples)
			r.Rows = append(r.Rows, against)
		}
	}
}

// peersOf one of ours are the others of its measure; a peer is compared with none.
func peersOf(s series, all []series) (peers []series) {
	for _, other := range all {
		if s.ours && !other.ours && other.measure == s.measure {
			peers = append(peers, other)
		}
	}
	return peers
}

// judge every claim of what was measured, or was to be.
func (r *report) judge(rng *rand.Rand) {
	all := map[string]series{}
	for _, s := range r.order {
		all[s.label()] = s
	}
	for _, c := range r.claims {
		r.Summary = append(r.Summary, c.judge(rng, all))
	}
}

// summaryColumns are those of the summary.
var summaryColumns = []string{"measure", "ours", "peer", "ratio", "low", "high", "must", "holds"}

// writeSummary writes the claims, one a line, with tabs between the columns.
func (r *report) writeSummary(w io.Writer) error {
	lines := []string{strings.Join(summaryColumns, "\t")}
	for _, j := range r.Summary {
		lines = append(lines, strings.Join(j.fields(), "\t"))
	}
	_, err := fmt.Fprintln(w, strings.Join(lines, "\n"))
	return err
}

// writeTable prints everything for people. A p99 of too few samples is left out.
func (r *report) writeTable(w io.Writer) error {
	fmt.Fprintln(w, r.Machine)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\nmeasure\tvariant\tn\tfailed\tmedian\tp90\tp99\tratio\tagainst")
	for _, x := range r.Rows {
		p99, versus := "-", "\t"
		if x.N >= enoughForTail {
			p99 = number(x.P99)
		}
		if x.Against != "" {
			versus = fmt.Sprintf("%.2f (%.2f – %.2f)\t%s", x.Ratio.Value, x.Ratio.Low, x.Ratio.High, x.Against)
		}
		fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%s %s\t%s\t%s\t%s\n",
			x.Measure, x.Variant, x.N, x.Failures, number(x.Median), x.Unit, number(x.P90), p99, versus)
	}
	r.writeBoard(t)
	fmt.Fprintln(t, "\n"+strings.Join(summaryColumns, "\t"))
	for _, j := range r.Summary {
		fmt.Fprintln(t, strings.Join(j.fields(), "\t"))
	}
	fmt.Fprintln(t, "\nmeasure\tseconds it took")
	for _, x := range r.Took {
		fmt.Fprintf(t, "%s\t%.0f\n", x.Measure, x.Seconds)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, e := range r.Errors {
		fmt.Fprintln(w, "failed:", e)
	}
	return nil
}

// writeJSON writes everything, samples included.
func (r *report) writeJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", " ")
	return enc.Encode(r)
}

// failed is what makes a run that only checks that everything runs fail: what failed, and
// what was claimed and not measured.
func (r *report) failed() error {
	var missing []string
	for _, j := range r.Summary {
		if j.Holds == notMeasured {
			missing = append(missing, fmt.Sprintf("%s, %s against %s", j.Measure, j.Ours, j.Peer))
		}
	}
	if len(missing) == 0 && len(r.Errors) == 0 {
		return nil
	}
	return fmt.Errorf("%d failures; not measured: %s", len(r.Errors), strings.Join(missing, "; "))
}
