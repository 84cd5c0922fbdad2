// Command bench measures brig beside its peers on this machine: the same image, the
// same containerd, the same runsc, one run. `make bench` calls it; it needs root.
//
// The table in measures.go is all that is measured, and what is claimed of it. A
// measure has variants, some ours and some peers', which are interleaved in an order
// that is shuffled anew each round; a variant yields a series of samples. A claim is a
// figure made of one or two series, mostly the ratio of their medians, with its 95 %
// bootstrap interval and what it must be: the worse end of the interval counts. Failures
// are counted and shown, nothing is trimmed, and a row that loses is printed like any
// other. The machine, the versions and the seed are recorded with the figures. No test
// asserts a time: the smoke test in this folder only checks that every variant of every
// measure ran and that every claim was judged.
//
// What an attachment and its rules cost is measured in throwaway network namespaces:
// one plays the host of a node, one the internet. With -trace nothing is measured: it
// tells where the time of a create, an exec and a delete goes.
package main
