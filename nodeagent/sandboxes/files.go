package sandboxes

import (
	"brig/internal/journal"
	"fmt"
	"os"
	"path/filepath"

	"brig/internal/netpolicy"
	"brig/nodeagent/engine"
	"brig/nodeagent/record"
	"brig/nodeagent/resolver"
)

// writeFiles writes what a sandbox finds in its /etc. They lie in brigd's state,
// where no tenant has a hand in any path.
func (m *Manager) writeFiles(r *record.Record, policy netpolicy.Policy) error {
	dir := m.cfg.JournalDir(string(r.ID))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the sandbox's folder: %w", err)
	}
	for name, text := range etc(r, policy.DNS() != netpolicy.DNSOff) {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return fmt.Errorf("write %s: %w", path, err)
		}
	}
	if r.Request.Stdin {
		return journal.CreateInput(filepath.Join(dir, stdinFile))
	}
	return nil
}

// writeResolv writes it anew, in place: the sandbox has this very file.
func (m *Manager) writeResolv(r *record.Record, policy netpolicy.Policy) error {
	path := filepath.Join(m.cfg.JournalDir(string(r.ID)), resolvFile)
	text := resolv(policy.DNS() != netpolicy.DNSOff)
	if had, err := os.ReadFile(path); err != nil || string(had) == text {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o644)
}

// writeHosts writes it anew, in place, once the address is known.
func (m *Manager) writeHosts(r *record.Record) error {
	path := filepath.Join(m.cfg.JournalDir(string(r.ID)), hostsFile)
	if err := os.WriteFile(path, []byte(hosts(r)), 0o644); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

const (
	hostsFile  = "hosts"
	resolvFile = "resolv.conf"
)

func resolv(dns bool) string {
	if dns {
		return "nameserver " + resolver.Address.String() + "\noptions timeout:3 attempts:2\n"
	}
	return "# This sandbox's policy has no DNS.\n"
}

func hosts(r *record.Record) string {
	self := "127.0.0.1"
	if r.Address.IsValid() {
		self = r.Address.String()
	}
	return "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n" + self + "\t" + r.Hostname() + "\n"
}

func etc(r *record.Record, dns bool) map[string]string {
	return map[string]string{
		hostsFile:  hosts(r),
		"hostname": r.Hostname() + "\n",
		resolvFile: resolv(dns),
	}
}

// spec is the engine's view of a record.
func (m *Manager) spec(r *record.Record, netns string) engine.Sandbox {
	dir := m.cfg.JournalDir(string(r.ID))
	stdout, stderr := m.Outputs(r)
	stdin := ""
	if r.Request.Stdin {
		stdin = filepath.Join(dir, stdinFile)
	}
	spec := engine.Sandbox{
		ID:          string(r.ID),
		Image:       r.Request.Image,
		Argv:        r.Request.Argv,
		Env:         r.Request.Env,
		Workdir:     r.Request.Workdir,
		Hostname:    r.Hostname(),
		Resources:   r.Request.Resources,
		Secrets:     len(r.Request.Secrets) > 0,
		Annotations: r.Request.Network.Annotations(),
		Netns:       netns,
		Files:       dir,
		Guest:       m.cfg.Sandboxes.Guest,
		Stdin:       stdin,
		Stdout:      stdout,
		Stderr:      stderr,
		TTY:         r.Request.TTY,
		Columns:     r.Request.Size.Columns,
		Rows:        r.Request.Size.Rows,
		GPUs:        r.GPUs,
	}
	if r.Request.GPU != nil {
		spec.GPUCapabilities = r.Request.GPU.Capabilities
	}
	return spec
}
