package main

import (
	"bytes"
	"io"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"brig/internal/require"
)

// TestSmoke runs every measure twice and looks at what ran, never at how long it took.
// gVisor's own shim is not among the variants: building it takes minutes.
func TestSmoke(t *testing.T) {
	require.Root(t)
	bin, err := filepath.Abs("../../bin")
	if err != nil {
		t.Fatal(err)
	}
	o := options{bin: bin, dir: t.TempDir(), rounds: 2, crowd: 2}
	r, err := benchmark(t.Context(), o, rand.New(rand.NewPCG(1, 0)), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	ran := map[string]bool{}
	for _, x := range r.Rows {
		if x.N != o.rounds || x.Failures != 0 {
			t.Errorf("%s / %s: %d of %d rounds, %d failed", x.Measure, x.Variant, x.N, o.rounds, x.Failures)
		}
		ran[x.Measure+" / "+x.Variant] = true
	}
	for _, want := range []string{
		"create → first output / runc shim",
		"create → first output / brig shim",
		"create → first output / brigd, network and policy",
		"exec round trip / runc shim",
		"exec round trip / brig shim",
		"exec round trip / brigd",
		"an idle sandbox of 1: processes / runc shim",
		"an idle sandbox of 1: processes / brig shim",
		"an idle sandbox of 2: memory / runc shim",
		"an idle sandbox of 2: memory / brig shim",
	} {
		if !ran[want] {
			t.Errorf("%s did not run", want)
		}
	}
	var table bytes.Buffer
	if err := r.writeTable(&table); err != nil {
		t.Fatal(err)
	}
	t.Log("\n" + table.String())
	for _, e := range r.Errors {
		if !strings.Contains(table.String(), e) {
			t.Errorf("the table does not show the failure %q", e)
		}
	}
}
