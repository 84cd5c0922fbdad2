package registry_test

import (
	"net"
	"testing"

	"brig/tests/registry"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

func TestWhatWasPushedIsPulled(t *testing.T) {
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := registry.Serve(listener)
	defer r.Close()
	img, err := random.Image(1<<16, 2)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := r.Push("brig/random:1", img)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := name.ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	pulled, err := remote.Image(parsed)
	if err != nil {
		t.Fatal(err)
	}
	want, _ := img.Digest()
	if got, err := pulled.Digest(); err != nil || got != want {
		t.Errorf("pulled %v (%v), pushed %v", got, err, want)
	}
}
