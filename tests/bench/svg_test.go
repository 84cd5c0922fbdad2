package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPlots(t *testing.T) {
	for name, all := range map[string][]series{
		"one value": {{variant: "a <b> & c", unit: "ms", samples: []float64{3, 3}}},
		"negative":  {{variant: "a", samples: []float64{-3, -2}}, {variant: "b", samples: []float64{0, 1e-9}}},
		"wide":      {{variant: "a", samples: []float64{0.001, 1e6}}},
		"none":      {{variant: "a", samples: []float64{0, 0}}},
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			if err := writeCDF(&b, "<title>", all); err != nil {
				t.Fatal(err)
			}
			if text := b.String(); strings.Contains(text, "NaN") || strings.Contains(text, "Inf") {
				t.Error(text)
			}
			path := filepath.Join(t.TempDir(), "plot.svg")
			if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
				t.Fatal(err)
			}
			wantXML(t, path)
		})
	}
}

func TestTicks(t *testing.T) {
	for _, tc := range []struct {
		low, high float64
		want      []float64
	}{
		{0, 103, []float64{0, 20, 40, 60, 80, 100}},
		{0, 7, []float64{0, 1, 2, 3, 4, 5, 6, 7}},
		{95, 105, []float64{94, 96, 98, 100, 102, 104}},
		{-3, 1, []float64{-3, -2.5, -2, -1.5, -1, -0.5, 0, 0.5, 1}},
	} {
		if diff := cmp.Diff(tc.want, ticks(tc.low, tc.high)); diff != "" {
			t.Errorf("%v to %v, -want +got\n%s", tc.low, tc.high, diff)
		}
	}
}

func TestFileName(t *testing.T) {
	if got := fileName("create → first output: at 100"); got != "create-first-output-at-100" {
		t.Error(got)
	}
}
