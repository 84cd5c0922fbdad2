package shim

import (
	"fmt"
	"os"
	"path/filepath"

	"brig/internal/config"

	bootapi "github.com/containerd/containerd/api/runtime/bootstrap/v1"
	"github.com/containerd/containerd/api/types/runtimeoptions/v1"
)

// sentConfig, in the bundle, is a configuration that came as text.
const sentConfig = "brig.toml"

// configured is what the server's environment says of its configuration, if the
// caller's runtime options name or send one. A container's create has the options, too;
// a pod that is made by the Sandbox API is told of them here alone.
func configured(p *bootapi.BootstrapParams) ([]string, error) {
	var o runtimeoptions.Options
	if found, err := p.FindExtension(&o); err != nil || !found {
		return nil, err
	}
	path := o.GetConfigPath()
	if path == "" && len(o.GetConfigBody()) > 0 {
		var err error
		if path, err = filepath.Abs(sentConfig); err != nil {
			return nil, err
		}
		if err := os.WriteFile(path, o.GetConfigBody(), 0o600); err != nil {
			return nil, fmt.Errorf("keep the configuration sent: %w", err)
		}
	}
	if path == "" {
		return nil, nil
	}
	return []string{config.EnvPath + "=" + path}, nil
}
