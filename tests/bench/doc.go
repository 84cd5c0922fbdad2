// Command bench measures brig beside its peers on this machine: the same image,
// the same containerd, one run. `make bench` calls it; it needs root.
//
// What it reports are ratios of medians with 95 % bootstrap intervals, because
// absolute times on a shared machine say little. Variants of a measure are
// interleaved and shuffled anew each round, failures are counted and shown,
// nothing is trimmed, and a row that loses is printed like any other. The machine
// is recorded with the figures. No test asserts a time: the smoke test in this
// folder only checks that every variant of every measure ran.
//
// What an attachment and its rules cost is measured in throwaway network namespaces:
// one plays the host of a node, one the internet.
package main
