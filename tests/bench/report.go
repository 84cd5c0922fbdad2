package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"text/tabwriter"
)

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

// report is everything that one run yielded.
type report struct {
	Machine machine              `json:"machine"`
	Rows    []row                `json:"rows"`
	Samples map[string][]float64 `json:"samples"`
	Errors  []string             `json:"errors,omitempty"`
}

// add series: each of ours gets a row against each peer in the same measure, or one by
// itself.
func (r *report) add(rng *rand.Rand, all []series) {
	if r.Samples == nil {
		r.Samples = map[string][]float64{}
	}
	for _, s := range all {
		name := s.measure + " / " + s.variant
		r.Samples[name] = s.samples
		for _, err := range s.failures {
			r.Errors = append(r.Errors, fmt.Sprintf("%s: %v", name, err))
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

// writeTable prints the rows for people. A p99 needs 200 samples to mean anything
// and is left out below that.
func (r *report) writeTable(w io.Writer) error {
	fmt.Fprintln(w, r.Machine)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "measure\tvariant\tn\tfailed\tmedian\tp90\tp99\tratio\tagainst")
	for _, x := range r.Rows {
		p99, versus := "-", "\t"
		if x.N >= 200 {
			p99 = fmt.Sprintf("%.1f", x.P99)
		}
		if x.Against != "" {
			versus = fmt.Sprintf("%.2f (%.2f – %.2f)\t%s", x.Ratio.Value, x.Ratio.Low, x.Ratio.High, x.Against)
		}
		fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%.1f %s\t%.1f\t%s\t%s\n",
			x.Measure, x.Variant, x.N, x.Failures, x.Median, x.Unit, x.P90, p99, versus)
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
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}
