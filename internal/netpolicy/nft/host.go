package nft

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// Host describes the node's table in the host's namespace.
type Host struct {
	Table string       // its name, family inet
	Link  string       // the node's veth
	Pool  netip.Prefix // sandbox addresses
}

// RenderHost replaces that table.
func RenderHost(h Host) string {
	return fmt.Sprintf(`add table inet %[1]s
delete table inet %[1]s
table inet %[1]s {
	chain input {
		type filter hook input priority -10; policy accept;
		iifname != "%[2]s" accept
		ct state established ct direction reply accept
		counter drop
	}
	chain forward {
		type filter hook forward priority -10; policy accept;
		oifname "%[2]s" ct state != established counter drop
	}
	chain post {
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr %[3]s oifname != "%[2]s" masquerade
	}
}
`, h.Table, h.Link, h.Pool)
}

// RenderHostGone removes it, whether it is there or not.
func RenderHostGone(table string) string {
	return fmt.Sprintf("add table inet %[1]s\ndelete table inet %[1]s\n", table)
}

// Intact tells whether the table stands in the caller's namespace with all its
// chains and rules; after a flush by anybody else it does not.
func (h Host) Intact(ctx context.Context) (bool, error) {
	out, err := Namespace("").run(ctx, "", "-j", "-s", "list", "table", "inet", h.Table)
	if err != nil {
		var failed *Error
		if errors.As(err, &failed) && strings.Contains(failed.Message, "No such file or directory") {
			return false, nil
		}
		return false, fmt.Errorf("read table %s: %w", h.Table, err)
	}
	s, err := parseState(out)
	if err != nil {
		return false, fmt.Errorf("read table %s: %w", h.Table, err)
	}
	for name, rules := range map[string]int{"input": 3, "forward": 1, "post": 1} {
		if len(s.chains[name].rules) != rules {
			return false, nil
		}
	}
	return strings.Contains(s.chains["post"].rules[0], h.Link), nil
}
