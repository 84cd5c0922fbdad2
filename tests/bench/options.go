package main

import (
	"strings"
	"time"
)

// options of a run.
type options struct {
	bin  string // brig's binaries, with deps/ in it
	dir  string // where throwaway nodes keep everything
	peer string // gVisor's own shim; empty: without it
	only string // part of a measure's name
	mode mode
	seed uint64
	// rounds of every variant; 0: as many as the table says.
	rounds int

	// crowds are how many idle sandboxes are looked at together, sizes how many there
	// are where it is measured how costs grow.
	crowds, sizes []int
	// idle is how long they have been so: a start leaves garbage, which a shim gives back when
	// it is over.
	idle     time.Duration
	restarts int // at each size
	// burst is how many sandboxes are made at once, and one after the other every
	// staggerEvery.
	burst int
	pool  int // how many wait
	lives int // that are lived at once in a sample of the create rate
	// records of a store are stand-ins for sandboxes.
	records []int
	// few, many and full are how many attachments a node has whose network is measured,
	// ranges how many its longest list has, batch the round trips of a sample, and
	// bytes what a stream carries.
	few, many, full, ranges, batch, bytes int
}

func (o options) wants(name string) bool { return strings.Contains(name, o.only) }

// largest of what costs grow with.
func (o options) largest() int { return o.sizes[len(o.sizes)-1] }

// mode is how much is measured.
type mode int

// The modes: some 18 minutes on two quiet cores, 3 minutes, and what a test can wait for.
const (
	full mode = iota
	quick
	smoke
)

func (m mode) String() string { return [...]string{"full", "quick", "smoke"}[m] }

// options of everything in each mode.
func (m mode) options() options {
	return [...]options{
		full: {
			mode: m, crowds: []int{1, 10, 50, 100}, sizes: []int{1, 10, 100}, idle: 12 * time.Second, restarts: 10, burst: 50, lives: 20, pool: 10, records: []int{1, 100, 1000, 10_000},
			few: 10, many: 200, full: 10_000, ranges: 100_000, batch: 200, bytes: 256 << 20,
		},
		quick: {
			mode: m, crowds: []int{1, 10}, sizes: []int{1, 10}, idle: settle, restarts: 3, burst: 10, lives: 8, pool: 4, records: []int{1, 100},
			few: 10, many: 20, full: 200, ranges: 2000, batch: 100, bytes: 64 << 20,
		},
		smoke: {
			mode: m, crowds: []int{2}, sizes: []int{1, 2}, idle: settle, restarts: 1, burst: 2, lives: 2, pool: 1, records: []int{1, 3},
			few: 1, many: 2, full: 3, ranges: 50, batch: 10, bytes: 1 << 20,
		},
	}[m]
}

// roundsOf a measure: what was asked for, or else what the table says.
func (o options) roundsOf(m entry) int {
	if o.rounds > 0 {
		return o.rounds
	}
	return [...]int{full: m.full, quick: m.quick, smoke: 1}[o.mode]
}
