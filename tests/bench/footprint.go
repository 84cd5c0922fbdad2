package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// footprint of a sandbox on its host. The processes are the shim and its children: what
// a sentry forks are the address spaces of its programs, as many with any shim. The
// memory is that of all of them, and proportional (PSS).
type footprint struct {
	processes int
	classes   map[string]int // bytes
}

// The classes of processes, in the order of the report.
const (
	classShim    = "shim"
	classSentry  = "sentry"
	classGofer   = "gofer"
	classWait    = "runsc wait"
	classProgram = "program"
	classStubs   = "stubs" // the address spaces of a sentry's programs
)

var classNames = []string{classShim, classSentry, classGofer, classWait, classProgram, classStubs}

func (f footprint) bytes() (sum int) {
	for _, bytes := range f.classes {
		sum += bytes
	}
	return sum
}

// footprintOf a sandbox is that of its shim, the parent of its first process, and of
// what descends from the shim.
func footprintOf(parents map[int]int, first int) (footprint, error) {
	shim, ok := parents[first]
	if !ok || shim == 1 {
		return footprint{}, fmt.Errorf("process %d has no shim for a parent", first)
	}
	return footprintBelow(parents, shim)
}

// footprintBelow a shim.
func footprintBelow(parents map[int]int, shim int) (footprint, error) {
	f := footprint{classes: map[string]int{}}
	for pid := range parents {
		if pid != shim && !descends(parents, pid, shim) {
			continue
		}
		_, bytes, err := memory(pid)
		if err != nil {
			return footprint{}, err
		}
		class := classStubs
		switch {
		case pid == shim:
			class = classShim
		case parents[pid] == shim:
			class = classOf(pid)
		}
		if class != classStubs {
			f.processes++
		}
		f.classes[class] += bytes
	}
	return f, nil
}

// classOf a shim's child, by its arguments.
func classOf(pid int) string {
	line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)) // of one that has ended nothing counts
	words := bytes.Split(line, []byte{0})
	for _, c := range []struct{ word, class string }{{"boot", classSentry}, {"gofer", classGofer}, {"wait", classWait}} {
		for _, word := range words {
			if string(word) == c.word {
				return c.class
			}
		}
	}
	return classProgram
}

func descends(parents map[int]int, pid, from int) bool {
	for pid != 0 {
		pid = parents[pid]
		if pid == from {
			return true
		}
	}
	return false
}

// processTable is the parent of every process.
func processTable() (map[int]int, error) {
	paths, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	parents := make(map[int]int, len(paths))
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			return nil, err
		}
		// The name, in brackets, may hold anything; its state and parent come after it.
		fields := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:])
		if parents[pid], err = strconv.Atoi(string(fields[1])); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	return parents, nil
}
