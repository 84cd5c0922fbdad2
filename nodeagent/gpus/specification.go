package gpus

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"tags.cncf.io/container-device-interface/pkg/cdi"

	"brig/internal/config"
	"brig/nodeagent/record"
)

// ownFile is the specification that the shim reads.
const ownFile = "nvidia.json"

// keepSpecification puts spec where the shim reads it, and where other callers do unless
// that would make them trouble. Without a spec both go: what they name is not there.
func (n *Node) keepSpecification(spec json.RawMessage) error {
	if err := keepFile(filepath.Join(n.cfg.CDIDir(), ownFile), spec); err != nil {
		return err
	}
	path := n.cfg.GPU.Publish
	if path == "" {
		return nil
	}
	if len(spec) > 0 {
		if err := n.conflict(spec); err != nil {
			n.log.Warn("brig's CDI specification is not published", "path", path, "err", err)
			spec = nil
		}
	}
	if err := keepFile(path, spec); err != nil {
		n.log.Error("publish the CDI specification", "err", err) // brig's own sandboxes do without
	}
	return nil
}

// Withdraw takes away what New's node has published, when the node is taken down.
func Withdraw(cfg *config.Config) error {
	if cfg.GPU.Publish == "" {
		return nil
	}
	return keepFile(cfg.GPU.Publish, nil)
}

// conflict is why others would have trouble if spec were published. Of two files that give
// one name, CDI takes none; a file that cannot be read may be one. And without the program
// that its hooks run, no container with a GPU would start.
func (n *Node) conflict(spec json.RawMessage) error {
	if _, err := os.Stat(n.ask.hook()); err != nil {
		return fmt.Errorf("find the program of its hooks: %w", err)
	}
	own, err := cdi.ParseSpec(spec)
	if err != nil {
		return err
	}
	names := map[string]bool{}
	for _, d := range own.Devices {
		names[d.Name] = true
	}
	for _, path := range n.others() {
		other, err := cdi.ReadSpec(path, 0)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("%s cannot be read, and may name the same GPUs: %w", path, err)
		}
		for _, d := range other.Devices {
			if other.Kind == record.CDIKind && names[d.Name] {
				return fmt.Errorf("%s names %s=%s too: remove it to have brig's", path, other.Kind, d.Name)
			}
		}
	}
	return nil
}

// others are the specifications of everybody else.
func (n *Node) others() (paths []string) {
	for _, dir := range n.cfg.GPU.SpecDirs {
		for _, pattern := range []string{"*.json", "*.yaml"} {
			found, _ := filepath.Glob(filepath.Join(dir, pattern))
			paths = append(paths, found...)
		}
	}
	own, _ := os.Stat(n.cfg.GPU.Publish)
	return slices.DeleteFunc(paths, func(path string) bool {
		info, err := os.Stat(path) // /var/run is /run by another name
		return err == nil && os.SameFile(info, own)
	})
}

// keepFile has the file be data, whole at any instant, or, without data, not be there.
func keepFile(path string, data []byte) error {
	if len(data) == 0 {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("withdraw a CDI specification: %w", err)
		}
		return nil
	}
	// Whatever brigd's umask is, others are to read it.
	next := path + ".new" // CDI reads no such name
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	err = errors.Join(err, os.WriteFile(next, append(data, '\n'), 0o644))
	if err = errors.Join(err, os.Chmod(next, 0o644), os.Rename(next, path)); err != nil {
		return fmt.Errorf("keep a CDI specification: %w", errors.Join(err, ignoreMissing(os.Remove(next))))
	}
	return nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
