package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"
)

// span is a part of something: brigd's, its shim's or containerd's.
type span struct {
	name       string
	begin, end time.Time
}

// beside are spans of what nobody waits for, or of waiting itself.
var beside = regexp.MustCompile(`Events/Forward$|/Wait$|/Connect$`)

// short are the names of containerd's own calls, and of those to its shim.
var short = strings.NewReplacer("containerd.task.v3.Task/", "to the shim: ", "containerd.services.tasks.v1.", "containerd: ",
	"containerd.services.containers.v1.", "containerd: ", "containerd.services.snapshots.v1.", "containerd: ",
	"containerd.services.leases.v1.", "containerd: ", "containerd.services.images.v1.", "containerd: ",
	"containerd.services.content.v1.", "containerd: ")

// collector receives OTLP over HTTP, from brigd and from its containerd.
type collector struct {
	server   *http.Server
	endpoint string

	mu    sync.Mutex // guards spans
	spans []span
}

func collect() (*collector, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for spans: %w", err)
	}
	c := &collector{endpoint: "http://" + l.Addr().String()}
	c.server = &http.Server{Handler: http.HandlerFunc(c.take), ReadHeaderTimeout: time.Minute}
	go func() { _ = c.server.Serve(l) }()
	return c, nil
}

// node is one that sends its spans here, and so does its containerd, whose tracing brigd
// has disabled: the program that brigd starts in its place enables it again.
func (c *collector) node(o options) (nodeSpec, error) {
	path := filepath.Join(o.dir, "containerd-traced")
	script := fmt.Sprintf(`#!/bin/sh -e
sed "s/'io.containerd[^']*tracing[^']*', *//g" "$2" >"$2.traced"
exec %s --config "$2.traced"
`, filepath.Join(o.bin, "deps", "containerd"))
	return nodeSpec{
		name:      "traced",
		overrides: fmt.Sprintf("[tracing]\nendpoint = %q\n[containerd]\nbinary = %q\n", c.endpoint, path),
		env:       []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + c.endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf", "OTEL_SERVICE_NAME=containerd"},
	}, os.WriteFile(path, []byte(script), 0o700)
}

func (c *collector) take(w http.ResponseWriter, r *http.Request) {
	data, err := io.ReadAll(r.Body)
	var m coltracepb.ExportTraceServiceRequest
	if err == nil {
		err = proto.Unmarshal(data, &m)
	}
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, resource := range m.GetResourceSpans() {
		for _, scope := range resource.GetScopeSpans() {
			for _, s := range scope.GetSpans() {
				if name := s.GetName(); !beside.MatchString(name) {
					c.spans = append(c.spans, span{
						name: short.Replace(name), begin: time.Unix(0, int64(s.GetStartTimeUnixNano())), end: time.Unix(0, int64(s.GetEndTimeUnixNano())),
					})
				}
			}
		}
	}
}

// all that came and what others add, in the order in which they began; of two that began
// together the longer one first.
func (c *collector) all(others []span) []span {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := slices.Concat(c.spans, others)
	slices.SortFunc(list, func(a, b span) int {
		if order := a.begin.Compare(b.begin); order != 0 {
			return order
		}
		return b.end.Compare(a.end)
	})
	return list
}

func (c *collector) close() error { return c.server.Close() }
