package main

import (
	"fmt"
	"io"
	"slices"
)

// writeBoard prints the times to interactive in the form of the public boards: a line for
// each who made sandboxes, all of them in the end, and how long until a first command had
// been run in one, when they are made one after the other, one every so often, and all
// at once.
func (r *report) writeBoard(w io.Writer) {
	var names []string
	columns := map[string]map[string]series{} // by how, then by who
	for _, s := range r.order {
		for _, how := range boardWays {
			if s.measure != interactive(how) {
				continue
			}
			if columns[how] == nil {
				columns[how] = map[string]series{}
			}
			columns[how][s.variant] = s
			if !slices.Contains(names, s.variant) {
				names = append(names, s.variant)
			}
		}
	}
	if len(names) == 0 {
		return
	}
	fmt.Fprintln(w, "\ntime to interactive, ms\thow\tmedian\tp95\tp99\tsuccess")
	for _, name := range names {
		for _, how := range boardWays {
			s := columns[how][name]
			sorted := slices.Sorted(slices.Values(s.samples))
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d/%d\n", name, how, number(quantile(sorted, 0.5)), number(quantile(sorted, 0.95)),
				number(quantile(sorted, 0.99)), len(sorted), len(sorted)+len(s.failures))
		}
	}
}
