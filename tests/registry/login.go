package registry

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
)

// Login is what a registry asks of its clients.
type Login struct {
	Username, Password string
	// Bearer has clients fetch a token, by the password or by IdentityToken, from the
	// service at Realm; empty: the registry's own.
	Bearer        bool
	IdentityToken string
	Realm         string
	// BlobsAt is a host that clients are sent to for content; empty: it is here.
	BlobsAt string

	token string
}

// Require asks for l from now on; Push needs none.
func (r *Registry) Require(l Login) {
	l.token = rand.Text()
	if l.Realm == "" {
		l.Realm = "http://" + r.host + "/token"
	}
	r.guard.Store(&l)
}

// Handler serves what the registry has to whoever asks, for a host of its blobs.
func (r *Registry) Handler() http.Handler { return r.handler }

func (r *Registry) serve(w http.ResponseWriter, req *http.Request) {
	l := r.guard.Load()
	switch {
	case l == nil:
		r.handler.ServeHTTP(w, req)
	case l.Bearer && req.URL.Path == "/token":
		l.serveToken(w, req)
	case !l.admits(req):
		challenge := `Basic realm="registry"`
		if l.Bearer {
			challenge = fmt.Sprintf(`Bearer realm=%q,service="registry"`, l.Realm)
		}
		w.Header().Set("WWW-Authenticate", challenge)
		http.Error(w, `{"errors":[{"code":"UNAUTHORIZED"}]}`, http.StatusUnauthorized)
	case l.BlobsAt != "" && strings.Contains(req.URL.Path, "/blobs/"):
		http.Redirect(w, req, "http://"+l.BlobsAt+req.URL.Path, http.StatusTemporaryRedirect)
	default:
		r.handler.ServeHTTP(w, req)
	}
}

func (l *Login) admits(req *http.Request) bool {
	if l.Bearer {
		return req.Header.Get("Authorization") == "Bearer "+l.token
	}
	username, password, ok := req.BasicAuth()
	return ok && username == l.Username && password == l.Password
}

// serveToken knows both forms: the older GET with basic authentication, and OAuth's POST.
func (l *Login) serveToken(w http.ResponseWriter, req *http.Request) {
	username, password, ok := req.BasicAuth()
	if req.Method == http.MethodPost {
		username, password = req.PostFormValue("username"), req.PostFormValue("password")
		ok = req.PostFormValue("grant_type") == "password"
	}
	byToken := l.IdentityToken != "" && req.PostFormValue("refresh_token") == l.IdentityToken
	if !byToken && (!ok || username != l.Username || password != l.Password) {
		http.Error(w, "who is that?", http.StatusUnauthorized)
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]string{"token": l.token, "access_token": l.token})
}
