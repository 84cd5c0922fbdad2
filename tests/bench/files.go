package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// write everything to dir, which is made if it is not there; plots of an earlier run are
// removed.
func (r *report) write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	old, err := filepath.Glob(filepath.Join(dir, "*.svg"))
	if err != nil {
		return err
	}
	var errs []error
	for _, path := range old {
		errs = append(errs, os.Remove(path))
	}
	for name, what := range map[string]func(io.Writer) error{
		"results.json": r.writeJSON, "table.txt": r.writeTable, "summary.tsv": r.writeSummary,
	} {
		errs = append(errs, writeFile(filepath.Join(dir, name), what))
	}
	return errors.Join(append(errs, r.writePlots(dir))...)
}

// writePlots draws each measure that has a distribution.
func (r *report) writePlots(dir string) error {
	var names []string
	plots := map[string][]series{}
	for _, s := range r.order {
		if len(s.samples) < 2 {
			continue
		}
		if plots[s.measure] == nil {
			names = append(names, s.measure)
		}
		plots[s.measure] = append(plots[s.measure], s)
	}
	var errs []error
	for _, name := range names {
		errs = append(errs, writeFile(filepath.Join(dir, fileName(name)+".svg"), func(w io.Writer) error {
			return writeCDF(w, name, plots[name])
		}))
	}
	return errors.Join(errs...)
}

var unfit = regexp.MustCompile(`[^a-z0-9]+`)

// fileName of a measure, in small letters and digits.
func fileName(name string) string {
	return strings.Trim(unfit.ReplaceAllString(strings.ToLower(name), "-"), "-")
}

func writeFile(path string, write func(io.Writer) error) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}
