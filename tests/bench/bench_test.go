package main

import (
	"bytes"
	"io"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"brig/internal/require"
)

// TestSmoke runs every measure twice and looks at what ran, never at how long it took.
// gVisor's own shim is not among the variants: building it takes minutes.
func TestSmoke(t *testing.T) {
	require.Net(t)
	bin, err := filepath.Abs("../../bin")
	if err != nil {
		t.Fatal(err)
	}
	o := options{
		bin: bin, dir: t.TempDir(), rounds: 2, crowd: 2,
		few: 1, many: 2, full: 3, ranges: 50, batch: 10, bytes: 1 << 20,
	}
	r, err := benchmark(t.Context(), o, rand.New(rand.NewPCG(1, 0)), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	ran := map[string]int{}
	for _, x := range r.Rows {
		if x.Failures != 0 {
			t.Errorf("%s / %s: %d failed", x.Measure, x.Variant, x.Failures)
		}
		ran[x.Measure+" / "+x.Variant] = x.N
	}
	want := map[string]int{
		"create → first output / runc shim":                                                      2,
		"create → first output / brig shim":                                                      2,
		"create → first output / brigd, network and policy":                                      2,
		"exec round trip / runc shim":                                                            2,
		"exec round trip / brig shim":                                                            2,
		"exec round trip / brigd":                                                                2,
		"an idle sandbox of 1: processes / runc shim":                                            2,
		"an idle sandbox of 1: processes / brig shim":                                            2,
		"an idle sandbox of 1: memory / runc shim":                                               2,
		"an idle sandbox of 1: memory / brig shim":                                               2,
		"an idle sandbox of 2: processes / runc shim":                                            2,
		"an idle sandbox of 2: processes / brig shim":                                            2,
		"an idle sandbox of 2: memory / runc shim":                                               2,
		"an idle sandbox of 2: memory / brig shim":                                               2,
		"tunnel: throughput in / dialled directly":                                               2,
		"tunnel: throughput in / through the tunnel":                                             2,
		"tunnel: throughput out / dialled directly":                                              2,
		"tunnel: throughput out / through the tunnel":                                            2,
		"tunnel: round trip / dialled directly":                                                  8,
		"tunnel: round trip / through the tunnel":                                                8,
		"tunnel: added round trip / raw TCP":                                                     8,
		"ADD at 2 attachments / brig-cni, deny":                                                  8,
		"ADD at 2 attachments / brig-cni with a policy":                                          8,
		"ADD at 2 attachments / ptp, host-local, firewall":                                       8,
		"ADD as the node fills / at 1":                                                           8,
		"ADD as the node fills / at 3":                                                           8,
		"an existing policy at 3 attachments / bind, a list of 3":                                8,
		"an existing policy at 3 attachments / rebind, a list of 3":                              8,
		"an existing policy at 3 attachments / rebind, a list of 50":                             8,
		"an existing policy at 3 attachments, the node's network checked / bind, a list of 3":    8,
		"an existing policy at 3 attachments, the node's network checked / rebind, a list of 3":  8,
		"an existing policy at 3 attachments, the node's network checked / rebind, a list of 50": 8,
		"load 50 ranges / the rules, read back":                                                  2,
		"TCP out of a sandbox / no rules":                                                        8,
		"TCP out of a sandbox / 3 sandboxes, a list of 50":                                       8,
		"TCP into a sandbox / no rules":                                                          8,
		"TCP into a sandbox / 3 sandboxes, a list of 50":                                         8,
		"round trip, a processor for each end / no rules":                                        8,
		"round trip, a processor for each end / 3 sandboxes, a list of 50":                       8,
		"round trip, one processor / no rules":                                                   8,
		"round trip, one processor / 3 sandboxes, a list of 50":                                  8,
		"rule lines / 1 sandbox":                                                                 1,
		"rule lines / 3 sandboxes":                                                               1,
	}
	if diff := cmp.Diff(want, ran); diff != "" {
		t.Errorf("rounds of each variant, -want +got\n%s", diff)
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
