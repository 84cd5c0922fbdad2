// Package standalone makes a throwaway node: one that keeps everything under a folder
// and one run directory, uses the programs that lie beside brigd, and shares nothing
// with the machine's own node or with another throwaway one, so that any number run
// side by side. What it chooses follows from the folder's path, so that a second
// start in the same folder finds again what the first one left.
package standalone

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/pelletier/go-toml/v2"
	"golang.org/x/sys/unix"

	"brig/internal/config"
	"brig/nodeagent/cgroup"
)

type table = map[string]any

// Prepare writes the node's configuration and its CNI network, and returns the
// configuration's path. Keys of an overrides.toml in dir win.
func Prepare(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("find %s: %w", dir, err)
	}
	if err := trustworthy(dir); err != nil {
		return "", err
	}
	exe, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find brigd's own folder: %w", err)
	}
	settings := settings(dir, filepath.Dir(exe))
	if err := override(settings, filepath.Join(dir, "overrides.toml")); err != nil {
		return "", err
	}
	data, err := toml.Marshal(settings)
	if err != nil {
		return "", fmt.Errorf("render the configuration: %w", err)
	}
	path := filepath.Join(dir, "config.toml")
	if err := write(path, append([]byte("# Written by brigd --standalone at each start; change overrides.toml instead.\n"), data...)); err != nil {
		return "", err
	}
	network, err := conflist(path)
	if err != nil {
		return "", err
	}
	return path, write(filepath.Join(dir, "cni", "net.d", "10-brig.conflist"), network)
}

// trustworthy refuses a folder in which somebody else could put a configuration: it
// names programs that run as root.
func trustworthy(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make the node's folder: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return fmt.Errorf("look at the node's folder %s: %w", dir, err)
	}
	others := st.Mode&0o002 != 0 || st.Mode&0o020 != 0 && int(st.Gid) != os.Getegid()
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || int(st.Uid) != os.Geteuid() || others {
		return fmt.Errorf("%s must be a folder of brigd's own user that nobody else may write: choose another one", dir)
	}
	return nil
}

// Node is the name of the node in dir.
func Node(dir string) string {
	sum := sha256.Sum256([]byte(dir))
	return hex.EncodeToString(sum[:4])
}

func settings(dir, bin string) table {
	node := Node(dir)
	return table{
		"node":      node,
		"state_dir": filepath.Join(dir, "state"),
		"run_dir":   "/run/brig-" + node,
		"socket":    filepath.Join(dir, "brig.sock"),
		"runsc":     table{"path": filepath.Join(bin, "deps", "runsc")},
		"containerd": table{
			"address": filepath.Join(dir, "containerd.sock"),
			"binary":  filepath.Join(bin, "deps", "containerd"),
		},
		"cni":       table{"bin_dir": bin, "conf_dir": filepath.Join(dir, "cni", "net.d")},
		"sandboxes": table{"guest": filepath.Join(bin, "guest")},
		"gpu":       table{"generator": filepath.Join(bin, "deps", "brig-nvcdi"), "publish": ""},
	}
}

// override lays the file's keys, if there is one, over settings.
func override(settings table, path string) error {
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read overrides: %w", err)
	}
	var over table
	if err := toml.Unmarshal(data, &over); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	merge(settings, over)
	return nil
}

func merge(base, over table) {
	for key, value := range over {
		inner, ok := value.(table)
		if below, isTable := base[key].(table); ok && isTable {
			merge(below, inner)
			continue
		}
		base[key] = value
	}
}

// conflist is the CNI network of a node with that configuration.
func conflist(configPath string) ([]byte, error) {
	data, err := json.MarshalIndent(table{
		"cniVersion": "1.1.0",
		"name":       "brig",
		"plugins": []table{{
			"type":         "brig-cni",
			"config":       configPath,
			"capabilities": table{"brig.network-policy": true, "portMappings": true},
		}},
	}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("render the CNI network: %w", err)
	}
	return append(data, '\n'), nil
}

// write replaces a file at once: shims of a brigd that runs read it, also while a second one
// for the same folder, which will not get far, writes it anew.
func write(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	next := fmt.Sprintf("%s.%d", path, os.Getpid())
	err := os.WriteFile(next, data, 0o644)
	if err == nil {
		err = os.Rename(next, path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(next))
	}
	return nil
}

// Clear removes what a node leaves outside its folder once nothing of it runs. While
// anything is mounted in the run directory that stays: a folder of the host's that a sandbox
// was shown must not be emptied with it.
func Clear(cfg *config.Config) error {
	errs := []error{cgroup.Remove(cfg.CgroupParent()), unmountBelow(cfg.StateDir)}
	if err := unmountBelow(cfg.RunDir); err != nil {
		return errors.Join(append(errs, err)...)
	}
	for _, path := range []string{cfg.RunDir, cfg.Containerd.Address, cfg.Containerd.Address + ".ttrpc"} {
		errs = append(errs, os.RemoveAll(path))
	}
	return errors.Join(errs...)
}

func unmount(path string) error {
	if err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("unmount %s: %w", path, err)
	}
	return nil
}
