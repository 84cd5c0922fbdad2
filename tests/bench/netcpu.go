package main

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// onCPU runs fn on a thread that stays on the nth of the process's processors, counted
// around. Where the scheduler puts the two ends of a connection matters more than any
// rule, and it changes its mind.
func onCPU(n int, fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // it ends with the goroutine
		if err := pin(n); err != nil {
			done <- fmt.Errorf("stay on a processor: %w", err)
			return
		}
		done <- fn()
	}()
	return <-done
}

func pin(n int) error {
	var all, one unix.CPUSet
	if err := unix.SchedGetaffinity(unix.Getpid(), &all); err != nil {
		return err
	}
	n %= all.Count()
	for cpu := 0; ; cpu++ {
		if !all.IsSet(cpu) {
			continue
		}
		if n == 0 {
			one.Set(cpu)
			return unix.SchedSetaffinity(0, &one)
		}
		n--
	}
}
