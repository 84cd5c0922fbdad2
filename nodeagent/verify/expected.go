package verify

import (
	"fmt"
	"net/netip"
	"slices"

	"brig/internal/sandbox"
	"brig/nodeagent/record"
)

// node is what it should hold whatever the records say.
func (p *Parts) node() (want []Line) {
	if p.Config.Remote.Listen != "" {
		want = append(want, Line{Kind: "listener", Name: p.Config.Remote.Listen})
	}
	if p.Config.Tunnels.SharedPort != 0 {
		want = append(want, Line{Kind: "listener", Name: p.listener(p.Config.Tunnels.SharedPort)})
	}
	return want
}

// expected of one sandbox.
func (p *Parts) expected(r *record.Record) (want []Line) {
	id := string(r.ID)
	add := func(kinds ...string) {
		for _, k := range kinds {
			want = append(want, Line{Kind: k, Owner: id})
		}
	}
	if r.State != sandbox.Running {
		add("folder")
		return want
	}
	add(p.filed()...)
	add(p.booted()...)
	if slices.ContainsFunc(r.Request.Mounts, func(m record.Mount) bool { return m.Source != "" }) {
		add("binds")
	}
	if !r.Address.IsValid() {
		return want
	}
	want = append(want, attached(id, r.Address)...)
	for _, t := range r.Tunnels {
		if t.Listen != 0 && t.Listen != p.Config.Tunnels.SharedPort {
			want = append(want, Line{Kind: "listener", Name: p.listener(t.Listen)})
		}
	}
	return want
}

// filed is what a sandbox with a program holds of files.
func (p *Parts) filed() []string {
	kinds := []string{"folder", "snapshot"}
	if p.ownContainerd() {
		kinds = append(kinds, "mount")
	}
	return kinds
}

// booted is what every sandbox with a kernel holds.
func (p *Parts) booted() []string {
	kinds := []string{"container", "task", "cgroup", "runsc", "process shim", "process sentry", "process gofer"}
	if p.ownContainerd() {
		kinds = append(kinds, "bundle", "socket")
	}
	return kinds
}

// attached is what a sandbox holds of the network.
func attached(id string, address netip.Addr) (want []Line) {
	for _, k := range []string{"netns", "link", "policy", "rules", "attachment"} {
		want = append(want, Line{Kind: k, Owner: id})
	}
	for _, k := range []string{"lease", "route", "identity"} {
		want = append(want, Line{Kind: k, Owner: id, Name: address.String()})
	}
	return want
}

func (p *Parts) listener(port uint16) string {
	bind, err := netip.ParseAddr(p.Config.Tunnels.Bind)
	if err != nil {
		return fmt.Sprintf("%s:%d", p.Config.Tunnels.Bind, port) // such a configuration is refused
	}
	return netip.AddrPortFrom(bind, port).String()
}

// allowed is what a sandbox may have and need not: what its shim told of its making, which
// a brigd may not have lived to read.
func allowed(r *record.Record, held []Line) (lines []Line) {
	for _, l := range held {
		if l.Kind == "phases" && l.Owner == string(r.ID) && r.State == sandbox.Running {
			lines = append(lines, l.key())
		}
	}
	return lines
}

// unfinished is what lies there while a sandbox is being saved, and must not afterwards.
func unfinished(l Line) bool {
	return l.Kind == "unfinished checkpoint" || l.Kind == "unfinished snapshot"
}

// bystander is what is listed and may be there or not: what belongs to no sandbox is
// containerd's own business (a pull that is under way), and a program that runsc needs
// for a moment comes and goes.
func bystander(l Line) bool {
	switch l.Kind {
	case "container", "task", "snapshot", "lease of containerd":
		_, err := sandbox.ParseID(l.Owner)
		return err != nil
	case "process runsc", "exec", "checkpoint":
		return true
	}
	return false
}
