package config

import "path/filepath"

// The paths and names below are derived, so that three programs and an operator
// agree on them without another setting.

// TransitName is the name of the node's transit network namespace.
func (c *Config) TransitName() string { return "brig-" + c.Node }

// HostLink is the node's veth in the host's namespace; its peer is up0.
func (c *Config) HostLink() string {
	if c.Node == "host" {
		return "brig0"
	}
	return "brig-" + c.Node
}

// HostTable is the name of the node's nftables table (family inet) in the
// host's namespace.
func (c *Config) HostTable() string {
	if c.Node == "host" {
		return "brig"
	}
	return "brig-" + c.Node
}

// CgroupParent is the cgroup under which brigd puts its sandboxes.
func (c *Config) CgroupParent() string {
	if c.Node == "host" {
		return "/brig"
	}
	return "/brig-" + c.Node
}

// RunscRoot is runsc's state directory for a containerd namespace.
func (c *Config) RunscRoot(namespace string) string { return filepath.Join(c.RunDir, "r", namespace) }

// NetworkLock is held by whoever changes the node's network.
func (c *Config) NetworkLock() string { return filepath.Join(c.RunDir, "network.lock") }

// NetworkDir keeps the address leases and what was chosen for this boot.
func (c *Config) NetworkDir() string { return filepath.Join(c.RunDir, "network") }

// SecretsDir is where brigd leaves secrets for the shim. It is gone with a reboot.
func (c *Config) SecretsDir() string { return filepath.Join(c.RunDir, "secrets") }

// ExecsDir has what brigd keeps of execs that were started while StateDir's disk was full.
func (c *Config) ExecsDir() string { return filepath.Join(c.RunDir, "execs") }

// CDIDir has the CDI specification of the GPUs that brigd hands out.
func (c *Config) CDIDir() string { return filepath.Join(c.RunDir, "cdi") }

// BindsDir is where bind mounts of sandboxes are staged.
func (c *Config) BindsDir() string { return filepath.Join(c.RunDir, "binds") }

// JournalDir keeps the output of one sandbox.
func (c *Config) JournalDir(id string) string { return filepath.Join(c.StateDir, "sandboxes", id) }

// CheckpointsDir keeps sandboxes that were saved whole, by owner.
func (c *Config) CheckpointsDir() string { return filepath.Join(c.StateDir, "checkpoints") }

// SnapshotsDir is where layers lie while they are on their way into containerd.
func (c *Config) SnapshotsDir() string { return filepath.Join(c.StateDir, "snapshots") }

// PhasesFile is where the shim tells what it did to start a container whose creator asked.
func (c *Config) PhasesFile(namespace, id string) string {
	return filepath.Join(c.RunDir, "phases", namespace, id)
}

// Idle is the program of a sandbox that was made without one.
func (c *Config) Idle() string { return filepath.Join(c.Sandboxes.Guest, "brig-idle") }
