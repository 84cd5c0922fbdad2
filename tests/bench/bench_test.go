package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"brig/internal/require"
)

// TestSmoke takes every measure once and looks at what ran, never at how long it took.
// gVisor's own shim is not among the variants: building it takes minutes.
func TestSmoke(t *testing.T) {
	require.Net(t)
	o := smoke.options()
	var err error
	if o.bin, err = filepath.Abs("../../bin"); err != nil {
		t.Fatal(err)
	}
	o.dir, o.seed = t.TempDir(), 1
	r, err := benchmark(t.Context(), o, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range r.Errors {
		t.Error(e)
	}
	for _, x := range r.Rows {
		if x.N == 0 || x.Failures != 0 {
			t.Errorf("%s / %s: %d samples, %d failed", x.Measure, x.Variant, x.N, x.Failures)
		}
	}
	for _, j := range r.Summary {
		absent := strings.Contains(j.Peer, gvisorShim)
		if measured := j.Holds != notMeasured; measured == absent {
			t.Errorf("%s, %s against %s: %s", j.Measure, j.Ours, j.Peer, j.Holds)
		}
	}
	wantFiles(t, r)
}

// wantFiles looks for every claim in the summary, and at plots that a browser can read.
func wantFiles(t *testing.T, r *report) {
	t.Helper()
	dir := t.TempDir()
	if err := r.write(dir); err != nil {
		t.Fatal(err)
	}
	summary, err := os.ReadFile(filepath.Join(dir, "summary.tsv"))
	if err != nil {
		t.Fatal(err)
	}
	rows, want := strings.Split(strings.TrimSpace(string(summary)), "\n"), 1
	for _, m := range table(smoke.options()) {
		want += len(m.claims)
	}
	if len(rows) != want {
		t.Errorf("the summary has %d rows, want %d:\n%s", len(rows), want, summary)
	}
	for _, row := range rows {
		if fields := strings.Split(row, "\t"); len(fields) != len(summaryColumns) {
			t.Errorf("not %d columns: %q", len(summaryColumns), row)
		}
	}
	plots, err := filepath.Glob(filepath.Join(dir, "*.svg"))
	if err != nil || len(plots) < 10 {
		t.Errorf("%d plots, %v", len(plots), err)
	}
	for _, path := range plots {
		wantXML(t, path)
	}
	var table bytes.Buffer
	if err := r.writeTable(&table); err != nil {
		t.Fatal(err)
	}
	t.Log("\n" + table.String())
}

func wantXML(t *testing.T, path string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for d := xml.NewDecoder(f); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
	}
}
