package main

import (
	"errors"
	"fmt"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// onCPU runs fn on a thread that stays on the nth of the process's processors, counted
// around. Where the scheduler puts the two ends of a connection matters more than any
// rule, and it changes its mind.
func onCPU(n int, fn func() error) error {
	all, err := processors()
	if err == nil {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		one := nth(all, n)
		err = unix.SchedSetaffinity(0, &one)
	}
	if err != nil {
		return fmt.Errorf("stay on a processor: %w", err)
	}
	return errors.Join(fn(), unix.SchedSetaffinity(0, &all))
}

// processors that the process may use; asked before any thread is bound to one.
var processors = sync.OnceValues(func() (all unix.CPUSet, err error) {
	err = unix.SchedGetaffinity(unix.Getpid(), &all)
	return all, err
})

func nth(all unix.CPUSet, n int) (one unix.CPUSet) {
	n %= all.Count()
	for cpu := range len(all) * 64 {
		if !all.IsSet(cpu) {
			continue
		}
		if n == 0 {
			one.Set(cpu)
			break
		}
		n--
	}
	return one
}
