package cgroup

import "strconv"

// LimitThreads bounds the threads of all of the sandbox's processes on the host, those of
// its kernel too. At the bound that kernel cannot go on, and the sandbox ends. Without a
// controller that counts them it is an error.
func (g Group) LimitThreads(n uint64) error { return g.write("pids.max", strconv.FormatUint(n, 10)) }
