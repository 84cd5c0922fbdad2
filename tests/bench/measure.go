package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"time"
)

// variant is one way to do what a measure measures.
type variant struct {
	name string
	// ours is set on brig's ways, which are compared with the others.
	ours bool
	// once does it once and returns how long the part that counts took. What it
	// makes it removes before it returns, outside the time measured.
	once func(ctx context.Context) (time.Duration, error)
}

// measure is a question asked of several variants.
type measure struct {
	name     string
	variants []variant
}

// series is what one variant yielded.
type series struct {
	variant
	millis   []float64
	failures []error
}

// run does rounds of every variant, shuffled anew in each round, after one round
// that is not counted: it loads what the later ones find in the page cache.
func (m measure) run(ctx context.Context, rng *rand.Rand, rounds int, progress io.Writer) ([]series, error) {
	all := make([]series, len(m.variants))
	for i, v := range m.variants {
		all[i].variant = v
	}
	for round := range rounds + 1 {
		for _, i := range rng.Perm(len(all)) {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			took, err := all[i].once(ctx)
			switch {
			case round == 0:
			case err != nil:
				all[i].failures = append(all[i].failures, err)
			default:
				all[i].millis = append(all[i].millis, float64(took)/float64(time.Millisecond))
			}
		}
		fmt.Fprintf(progress, "\r%s: round %d of %d", m.name, round, rounds)
	}
	fmt.Fprintln(progress)
	return all, nil
}
