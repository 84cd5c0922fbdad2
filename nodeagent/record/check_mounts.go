package record

import (
	"path"
	"path/filepath"
	"strings"
)

// MaxMounts of a request, and the longest path of one.
const (
	MaxMounts = 32
	maxPath   = 4095
)

// kept are the folders of a sandbox's that are the runtime's and brig's own.
var kept = []string{"/proc", "/sys", "/dev", "/.brig"}

// written are the files that brig itself mounts. A bind mount of a folder with one of
// them would have the runtime make it on the host.
var written = []string{"/etc/hosts", "/etc/hostname", "/etc/resolv.conf"}

// checkMounts looks at each by itself, then at each pair.
func checkMounts(mounts []Mount) error {
	if len(mounts) > MaxMounts {
		return invalid("%d mounts: at most %d", len(mounts), MaxMounts)
	}
	for _, m := range mounts {
		if err := m.check(); err != nil {
			return err
		}
	}
	for i, m := range mounts {
		for j, other := range mounts {
			switch {
			case i == j:
			case m.Target == other.Target:
				return invalid("two mounts at %q: give each a target of its own", m.Target)
			case m.Source != "" && below(other.Target, m.Target):
				return invalid("mount %q lies below the bind mount %q, where it would be made on the node: mount it elsewhere", other.Target, m.Target)
			}
		}
	}
	return nil
}

func (m Mount) check() error {
	if !path.IsAbs(m.Target) || path.Clean(m.Target) != m.Target || len(m.Target) > maxPath || m.Target == "/" {
		return invalid("invalid mount target %.200q: want a clean absolute path other than /", m.Target)
	}
	for _, k := range kept {
		if m.Target == k || below(m.Target, k) {
			return invalid("invalid mount target %.200q: what is below %s is the sandbox's own", m.Target, k)
		}
	}
	for _, w := range written {
		if m.Target == w || m.Source != "" && below(w, m.Target) {
			return invalid("invalid mount target %.200q: brig writes the sandbox's %s", m.Target, w)
		}
	}
	if m.Source == "" {
		if m.SizeMiB > MaxMemory {
			return invalid("invalid tmpfs.size_mib %d of mount %q: at most %d", m.SizeMiB, m.Target, MaxMemory)
		}
		return nil
	}
	if !filepath.IsAbs(m.Source) || filepath.Clean(m.Source) != m.Source || len(m.Source) > maxPath || m.Source == "/" {
		return invalid("invalid bind.source %.200q of mount %q: want a clean absolute path other than /", m.Source, m.Target)
	}
	return nil
}

// below compares clean paths.
func below(p, dir string) bool { return strings.HasPrefix(p, strings.TrimSuffix(dir, "/")+"/") }
