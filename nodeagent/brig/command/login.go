package command

import (
	"fmt"
	"io"
	"strings"

	brigv1 "brig/nodeagent/api/brig/v1"
	"github.com/spf13/pflag"
)

// loginFlags are what a registry is told. A password is no argument: everybody on the
// machine can read those.
type loginFlags struct {
	username             string
	password, identified bool
}

func (f *loginFlags) register(fs *pflag.FlagSet) {
	fs.StringVar(&f.username, "username", "", "`NAME` to tell the registry, with --password-stdin")
	fs.BoolVar(&f.password, "password-stdin", false, "read the password from stdin; it is for this pull alone")
	fs.BoolVar(&f.identified, "identity-token-stdin", false, "read an identity token from stdin instead")
}

// auth is nil if nothing was said.
func (f *loginFlags) auth(in io.Reader) (*brigv1.RegistryAuth, error) {
	switch {
	case f.password != (f.username != ""):
		return nil, usagef("--username and --password-stdin belong together")
	case f.password && f.identified:
		return nil, usagef("--password-stdin and --identity-token-stdin both read stdin; give one")
	case !f.password && !f.identified:
		return nil, nil
	}
	data, err := io.ReadAll(io.LimitReader(in, maxSecret))
	if err != nil {
		return nil, fmt.Errorf("read stdin: %w", err)
	}
	secret := strings.TrimRight(string(data), "\r\n")
	if secret == "" {
		return nil, usagef("stdin is empty; write the secret to it")
	}
	if f.identified {
		return &brigv1.RegistryAuth{IdentityToken: secret}, nil
	}
	return &brigv1.RegistryAuth{Username: f.username, Password: secret}, nil
}
