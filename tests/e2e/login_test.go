package e2e

import (
	"net"
	"strings"
	"testing"

	"brig/tests/image/oci"
	"brig/tests/node"
	"brig/tests/registry"
)

// TestPullWithCredentials pulls what a registry gives to those alone whom it knows. The
// password is in no log and on no disk.
func TestPullWithCredentials(t *testing.T) {
	t.Parallel()
	n := use(t)
	img, err := image(oci.Recipe{})
	if err != nil {
		t.Fatal(err)
	}
	const password = "hush-91c40a7e"
	for name, login := range map[string]registry.Login{
		"basic": {Username: "ada", Password: password},
		"token": {Username: "ada", Password: password, Bearer: true, IdentityToken: password},
	} {
		t.Run(name, func(t *testing.T) {
			listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp4", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			r := registry.Serve(listener)
			defer r.Close()
			ref, err := r.Push("brig/private:1", img)
			if err != nil {
				t.Fatal(err)
			}
			r.Require(login)
			if r := n.Try(t, "image", "pull", ref); r.Code == 0 {
				t.Errorf("without a login: %s", r)
			}
			pull := func(in string, flags ...string) node.Result {
				cmd := n.BrigCommand(t.Context(), append([]string{"image", "pull", ref}, flags...)...)
				cmd.Stdin = strings.NewReader(in + "\n")
				return node.Run(t, cmd)
			}
			if r := pull("wrong", "--username", "ada", "--password-stdin"); r.Code == 0 {
				t.Errorf("with a wrong password: %s", r)
			}
			flags := []string{"--username", "ada", "--password-stdin"}
			if login.Bearer {
				flags = []string{"--identity-token-stdin"}
			}
			if r := pull(password, flags...); r.Code != 0 || strings.TrimSpace(r.Stdout) != ref {
				t.Error(r)
			}
			n.Brig(t, "image", "rm", ref)
		})
	}
	if strings.Contains(n.Log(1<<20), password) {
		t.Error("brigd's log tells the password")
	}
	c, err := n.Config()
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range append(filesWith(t, c.StateDir, password), filesWith(t, c.RunDir, password)...) {
		t.Errorf("%s has the password", file)
	}
}
