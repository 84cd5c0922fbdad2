package main

import (
	"math/rand/v2"
	"slices"
)

// resamples of a bootstrap; the interval's ends are stable to about 1 % with it.
const resamples = 2000

// quantile q of sorted samples by linear interpolation; 0 of none.
func quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	at := q * float64(len(sorted)-1)
	low := int(at)
	if low+1 >= len(sorted) {
		return sorted[len(sorted)-1]
	}
	return sorted[low] + (at-float64(low))*(sorted[low+1]-sorted[low])
}

// median of unsorted samples.
func median(samples []float64) float64 {
	return quantile(slices.Sorted(slices.Values(samples)), 0.5)
}

// interval is a value and the ends of its 95 % bootstrap interval.
type interval struct {
	Value float64 `json:"value"`
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
}

// ratio of the medians of ours and the peer's samples. Without samples on either side it
// is zero.
func ratio(rng *rand.Rand, ours, peer []float64) interval {
	if len(ours) == 0 || len(peer) == 0 {
		return interval{}
	}
	return bootstrap(rng, ratioOfMedians.of, ours, peer)
}

// bootstrap a figure that is made of both samples. Both are resampled, so the interval
// covers the noise of both; there may be none of the peer's.
func bootstrap(rng *rand.Rand, figure func(ours, peer []float64) float64, ours, peer []float64) interval {
	draws := make([]float64, resamples)
	for i := range draws {
		draws[i] = figure(resample(rng, ours), resample(rng, peer))
	}
	slices.Sort(draws)
	return interval{
		Value: figure(ours, peer),
		Low:   quantile(draws, 0.025),
		High:  quantile(draws, 0.975),
	}
}

func resample(rng *rand.Rand, samples []float64) []float64 {
	drawn := make([]float64, len(samples))
	for i := range drawn {
		drawn[i] = samples[rng.IntN(len(samples))]
	}
	return drawn
}
