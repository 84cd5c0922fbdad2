// Package registry serves the distribution protocol on loopback from the memory
// of a test, so that images are pulled as they are from any registry, without
// leaving the machine.
package registry

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// Registry is one that serves until Close.
type Registry struct {
	handler http.Handler
	server  *http.Server
	host    string
	guard   atomic.Pointer[Login]
}

// Serve answers on listener, which it owns. The listener decides which network
// namespace the registry is in; it should be on loopback, where clients speak
// plain HTTP to it.
func Serve(listener net.Listener) *Registry {
	handler := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	r := &Registry{
		handler: handler,
		host:    fmt.Sprintf("localhost:%d", listener.Addr().(*net.TCPAddr).Port),
	}
	r.server = &http.Server{Handler: http.HandlerFunc(r.serve), ErrorLog: log.New(io.Discard, "", 0)}
	go func() { _ = r.server.Serve(listener) }()
	return r
}

// Push stores img under repository, such as brig/python:3, and returns the
// reference by which a node pulls it.
func (r *Registry) Push(repository string, img v1.Image) (string, error) {
	ref, err := name.ParseReference(r.host+"/"+repository, name.Insecure)
	if err != nil {
		return "", err
	}
	// Straight into the handler: the caller need not be in the registry's
	// network namespace.
	if err := remote.Write(ref, img, remote.WithTransport(inProcess{r.handler})); err != nil {
		return "", fmt.Errorf("push %s: %w", ref, err)
	}
	return ref.Name(), nil
}

// Close ends the service and cuts its connections.
func (r *Registry) Close() error { return r.server.Close() }

type inProcess struct{ handler http.Handler }

func (p inProcess) RoundTrip(req *http.Request) (*http.Response, error) {
	recorder := httptest.NewRecorder()
	if req.Body == nil {
		req.Body = http.NoBody
	}
	p.handler.ServeHTTP(recorder, req)
	res := recorder.Result()
	res.Request = req
	return res, nil
}
