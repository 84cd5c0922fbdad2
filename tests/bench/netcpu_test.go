package main

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestNth(t *testing.T) {
	var all unix.CPUSet
	for _, cpu := range []int{1, 3, 70} {
		all.Set(cpu)
	}
	for n, want := range map[int]int{0: 1, 1: 3, 2: 70, 3: 1} {
		if one := nth(all, n); one.Count() != 1 || !one.IsSet(want) {
			t.Errorf("processor %d of 1, 3 and 70 is not %d", n, want)
		}
	}
}

// A thread stays where it is put, and the others may go where they want.
func TestOnCPU(t *testing.T) {
	all, err := processors()
	if err != nil {
		t.Fatal(err)
	}
	for n := range all.Count() {
		err := onCPU(n, func() error {
			var now unix.CPUSet
			err := unix.SchedGetaffinity(0, &now)
			if now != nth(all, n) {
				t.Errorf("the thread may use %d processors, not just number %d", now.Count(), n)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	var after unix.CPUSet
	if err := unix.SchedGetaffinity(unix.Getpid(), &after); err != nil || after != all {
		t.Errorf("the process may use %d processors, before it was %d: %v", after.Count(), all.Count(), err)
	}
}
