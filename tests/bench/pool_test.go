package main

import (
	"net"
	"net/http"
	"path/filepath"
	"testing"
)

func TestFigure(t *testing.T) {
	n := &testNode{dir: t.TempDir()}
	l, err := net.Listen("unix", filepath.Join(n.dir, "brig.sock"))
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("# HELP a_total what\na_total{x=\"1\"} 2\na_total{x=\"2\"} 3.5\na_total_seconds 7\nb 1e+03\n"))
	})}
	go func() { _ = srv.Serve(l) }()
	defer srv.Close()
	for name, want := range map[string]float64{"a_total": 5.5, `a_total{x="2"}`: 3.5, "b": 1000} {
		if got, err := n.figure(t.Context(), name); err != nil || got != want {
			t.Errorf("%s: %v, %v; want %v", name, got, err, want)
		}
	}
	// One that brigd does not have is no 0.
	if got, err := n.figure(t.Context(), "c"); err == nil {
		t.Errorf("c: %v", got)
	}
}
