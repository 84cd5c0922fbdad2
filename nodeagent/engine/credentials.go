package engine

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
)

// Credentials are what a registry is told for one pull. The zero value is none.
type Credentials struct {
	Username, Password string
	IdentityToken      string // instead of both
}

// check refuses what says half of something.
func (c Credentials) check() error {
	named := c.Username != "" || c.Password != ""
	if named && c.IdentityToken != "" || (c.Username == "") != (c.Password == "") {
		return errdefs.ErrInvalidArgument.WithMessage("auth wants a username and a password, or an identity_token alone")
	}
	return nil
}

// resolver is containerd's own, said in full: HTTPS everywhere but on loopback. What c says
// reaches the registry of the image and the token service that this one names, and nobody
// whom either redirects to.
func (c Credentials) resolver(image string) (remotes.Resolver, error) {
	plain := docker.WithPlainHTTP(docker.MatchLocalhost)
	if c == (Credentials{}) {
		return docker.NewResolver(docker.ResolverOptions{Hosts: docker.ConfigureDefaultRegistries(plain)}), nil
	}
	named, err := reference.ParseDockerRef(image)
	if err != nil {
		return nil, err
	}
	registry, err := docker.DefaultHost(reference.Domain(named))
	if err != nil {
		return nil, err
	}
	tokens := &http.Client{Transport: tokenGuard{registry}, CheckRedirect: stay}
	authorizer := docker.NewDockerAuthorizer(docker.WithAuthClient(tokens), docker.WithAuthCreds(func(host string) (string, string, error) {
		switch {
		case host != registry:
			return "", "", nil
		case c.IdentityToken != "":
			return "", c.IdentityToken, nil
		}
		return c.Username, c.Password, nil
	}))
	return docker.NewResolver(docker.ResolverOptions{Hosts: docker.ConfigureDefaultRegistries(plain,
		docker.WithClient(&http.Client{Transport: registryGuard{registry}}), docker.WithAuthorizer(authorizer))}), nil
}

// registryGuard takes the credentials out of what goes elsewhere: Go's client lets them
// follow a redirect to another port, and to a subdomain.
type registryGuard struct{ registry string }

func (g registryGuard) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Header.Get("Authorization") == "" {
		return http.DefaultTransport.RoundTrip(r)
	}
	if r.URL.Host != g.registry {
		r = r.Clone(r.Context())
		r.Header.Del("Authorization")
		return http.DefaultTransport.RoundTrip(r)
	}
	return requireTLS(r, g.registry)
}

// tokenGuard lets nothing out in the open: what a token service is asked has the
// credentials in its body.
type tokenGuard struct{ registry string }

func (g tokenGuard) RoundTrip(r *http.Request) (*http.Response, error) {
	return requireTLS(r, g.registry)
}

// requireTLS makes an exception for a registry on loopback, and a token service beside it.
func requireTLS(r *http.Request, registry string) (*http.Response, error) {
	for _, host := range []string{registry, r.URL.Host} {
		local, err := docker.MatchLocalhost(host)
		if err != nil {
			return nil, err
		}
		if r.URL.Scheme != "https" && !local {
			return nil, errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf("%s would be told the credentials of %s without TLS", r.URL.Host, registry))
		}
	}
	return http.DefaultTransport.RoundTrip(r)
}

// stay follows a token service where it was named, and no further.
func stay(r *http.Request, via []*http.Request) error {
	if first := via[0].URL; r.URL.Host != first.Host || r.URL.Scheme != first.Scheme {
		return fmt.Errorf("the token service at %s redirects to %s, which is not told the credentials", first.Host, r.URL.Host)
	}
	if len(via) >= 10 {
		return errors.New("ten redirects of a token service")
	}
	return nil
}
