package main

import (
	"fmt"
	"io"
	"slices"
)

// verdict counts, and fails for each test that failed without being excepted, for
// each exception that passed, and for each test that proved nothing.
func verdict(results []result, exceptions []exception, out io.Writer) error {
	var pass, fail, hang, excepted int
	var wrong []string
	for _, r := range results {
		if slices.ContainsFunc(exceptions, func(e exception) bool { return e.test == r.name }) {
			excepted++
			if r.outcome == passed {
				wrong = append(wrong, r.name+" passed: take it from the exceptions and lower their ceiling")
			}
			continue
		}
		switch {
		case r.outcome == passed && r.reached:
			pass++
		case r.outcome == passed:
			fail++
			wrong = append(wrong, r.name+" passed without the shim")
		case r.outcome == hung:
			hang++
			wrong = append(wrong, r.name+" hung")
		default: // a test that is skipped has not passed
			fail++
			wrong = append(wrong, r.name+" failed")
		}
	}
	fmt.Fprintf(out, "%d passed, %d failed, %d hung; %d excepted of at most %d\n", pass, fail, hang, excepted, ceiling)
	if len(exceptions) > ceiling {
		wrong = append(wrong, fmt.Sprintf("there are %d exceptions, at most %d may be", len(exceptions), ceiling))
	}
	if len(wrong) == 0 {
		return nil
	}
	for _, line := range wrong {
		fmt.Fprintln(out, " ", line)
	}
	return fmt.Errorf("%d of %d are not as they should be", len(wrong), len(results))
}
