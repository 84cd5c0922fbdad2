package command

import (
	"strconv"
	"strings"

	brigv1 "brig/nodeagent/api/brig/v1"
)

// What a flag or an argument says is parsed here, syntax only: whether a value
// is acceptable is brigd's to judge, so that every caller reads the same words.

// pairs parses K=V items of the flag called name.
func pairs(name string, items []string) (map[string]string, error) {
	if len(items) == 0 {
		return nil, nil
	}
	out := make(map[string]string, len(items))
	for _, item := range items {
		k, v, found := strings.Cut(item, "=")
		if !found || k == "" {
			return nil, usagef("--%s %q: write it as KEY=VALUE", name, item)
		}
		if _, twice := out[k]; twice {
			return nil, usagef("--%s: %q is given twice", name, k)
		}
		out[k] = v
	}
	return out, nil
}

var tunnelKinds = map[string]brigv1.TunnelKind{
	"":    brigv1.TunnelKind_TUNNEL_KIND_TLS,
	"tls": brigv1.TunnelKind_TUNNEL_KIND_TLS,
	"h2":  brigv1.TunnelKind_TUNNEL_KIND_H2,
	"tcp": brigv1.TunnelKind_TUNNEL_KIND_TCP,
}

// port parses 8080, 8080/tls, 8080/h2 or 8080/tcp.
func port(s string) (*brigv1.Port, error) {
	number, kind, slash := strings.Cut(s, "/")
	n, err := strconv.ParseUint(number, 10, 32)
	k, known := tunnelKinds[kind]
	if err != nil || !known || (slash && kind == "") {
		return nil, usagef("port %q: write it as 8080, 8080/h2 or 8080/tcp", s)
	}
	return &brigv1.Port{SandboxPort: uint32(n), Kind: k}, nil
}

func ports(items []string) ([]*brigv1.Port, error) {
	var out []*brigv1.Port
	for _, item := range items {
		p, err := port(item)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}
