package engine

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-containerregistry/pkg/v1/random"

	"brig/tests/registry"
)

// guarded is a registry with one image, that asks for a login.
func guarded(t *testing.T, l registry.Login) (*registry.Registry, string) {
	t.Helper()
	var lc net.ListenConfig
	listener, err := lc.Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := registry.Serve(listener)
	t.Cleanup(func() { r.Close() })
	img, err := random.Image(1024, 1)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := r.Push("brig/private:1", img)
	if err != nil {
		t.Fatal(err)
	}
	r.Require(l)
	return r, ref
}

// fetch resolves the image and reads its manifest and its config, as a pull does.
func fetch(t *testing.T, c Credentials, ref string) error {
	t.Helper()
	resolver, err := c.resolver(ref)
	if err != nil {
		return err
	}
	name, desc, err := resolver.Resolve(t.Context(), ref)
	if err != nil {
		return err
	}
	fetcher, err := resolver.Fetcher(t.Context(), name)
	if err != nil {
		return err
	}
	body, err := fetcher.Fetch(t.Context(), desc)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, body)
	return errors.Join(err, body.Close())
}

func TestLogin(t *testing.T) {
	login := registry.Login{Username: "ada", Password: "hush", IdentityToken: "identity"}
	for _, bearer := range []bool{false, true} {
		login.Bearer = bearer
		_, ref := guarded(t, login)
		for _, tc := range []struct {
			c  Credentials
			ok bool
		}{
			{Credentials{}, false},
			{Credentials{Username: "ada", Password: "wrong"}, false},
			{Credentials{Username: "ada", Password: "hush"}, true},
			{Credentials{IdentityToken: "identity"}, bearer},
			{Credentials{IdentityToken: "wrong"}, false},
		} {
			err := fetch(t, tc.c, ref)
			if (err == nil) != tc.ok {
				t.Errorf("bearer %v, %+v: %v", bearer, tc.c, err)
			}
			if err != nil && (strings.Contains(err.Error(), "hush") || strings.Contains(err.Error(), "identity\"")) {
				t.Errorf("the error tells the password: %v", err)
			}
		}
	}
}

// A registry that keeps its content elsewhere sends clients there without what it was told.
func TestRedirectsDoNotCarryCredentials(t *testing.T) {
	for _, bearer := range []bool{false, true} {
		var mu sync.Mutex
		var told []string
		var handler http.Handler
		content := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			told = append(told, r.Header.Get("Authorization"))
			mu.Unlock()
			handler.ServeHTTP(w, r)
		}))
		defer content.Close()
		r, ref := guarded(t, registry.Login{
			Username: "ada", Password: "hush", Bearer: bearer, BlobsAt: strings.TrimPrefix(content.URL, "http://"),
		})
		handler = r.Handler()
		c := Credentials{Username: "ada", Password: "hush"}
		resolver, err := c.resolver(ref)
		if err != nil {
			t.Fatal(err)
		}
		name, desc, err := resolver.Resolve(t.Context(), ref)
		if err != nil {
			t.Fatal(err)
		}
		fetcher, err := resolver.Fetcher(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		desc.MediaType = "application/octet-stream" // a manifest is a blob, too, where it is asked for as one
		if body, err := fetcher.Fetch(t.Context(), desc); err == nil {
			_, _ = io.Copy(io.Discard, body)
			body.Close()
		}
		mu.Lock()
		if len(told) == 0 {
			t.Errorf("bearer %v: nobody was sent to the other host", bearer)
		}
		for _, authorization := range told {
			if authorization != "" {
				t.Errorf("bearer %v: the other host was told %q", bearer, authorization)
			}
		}
		mu.Unlock()
	}
}

func TestTokenServiceWithoutTLS(t *testing.T) {
	_, ref := guarded(t, registry.Login{Bearer: true, Username: "ada", Password: "hush", Realm: "http://192.0.2.1/token"})
	err := fetch(t, Credentials{Username: "ada", Password: "hush"}, ref)
	if err == nil || !strings.Contains(err.Error(), "without TLS") {
		t.Errorf("%v; want a refusal", err)
	}
}

func TestRequireTLS(t *testing.T) {
	for _, tc := range []struct{ url, registry string }{
		{"http://registry.example/v2/", "registry.example"},
		// A registry far away does not send what it was told to a service of this node's.
		{"http://127.0.0.1:5000/token", "registry.example"},
	} {
		r := httptest.NewRequest(http.MethodGet, tc.url, nil)
		res, err := requireTLS(r, tc.registry)
		if !errdefs.IsFailedPrecondition(err) {
			t.Errorf("%+v: %v, %v", tc, res, err)
		}
		if err == nil {
			res.Body.Close()
		}
	}
}

func TestTokenServiceThatRedirects(t *testing.T) {
	request := func(url string) *http.Request { return httptest.NewRequest(http.MethodPost, url, nil) }
	first := []*http.Request{request("https://tokens.example/a")}
	for url, ok := range map[string]bool{
		"https://tokens.example/b": true, "http://tokens.example/b": false, "https://a.tokens.example/b": false, "https://tokens.example:8443/b": false,
	} {
		if err := stay(request(url), first); (err == nil) != ok {
			t.Errorf("%s: %v", url, err)
		}
	}
	if err := stay(request("https://tokens.example/b"), make10(first[0])); err == nil {
		t.Error("it may redirect for ever")
	}
}

func make10(r *http.Request) (via []*http.Request) {
	for range 10 {
		via = append(via, r)
	}
	return via
}

func TestHalfOfALogin(t *testing.T) {
	for _, c := range []Credentials{
		{Username: "ada"}, {Password: "hush"}, {Username: "ada", Password: "hush", IdentityToken: "identity"}, {Password: "hush", IdentityToken: "identity"},
	} {
		if err := c.check(); !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
