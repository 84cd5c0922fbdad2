package daemon

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"brig/internal/config"
	"brig/internal/version"
	"brig/nodeagent/clock"
	"brig/nodeagent/metrics"
	"brig/nodeagent/network"
	"brig/nodeagent/pool"
	"brig/nodeagent/record"
	"brig/nodeagent/sandboxes"
)

// openPool makes what keeps sandboxes waiting. Also where none are to wait: then it removes
// those that an earlier brigd has left.
func (d *daemon) openPool(connected *network.Network, boot string) {
	cfg := d.Config
	usual := sandboxes.Shape(record.Resources{CPU: cfg.Sandboxes.CPU, MemoryMiB: cfg.Sandboxes.MemoryMiB})
	d.waiting = pool.New(pool.Parts{
		Config: cfg.Pool, Runtime: d.engine, Network: connected, Store: d.store, Default: usual,
		Maker: func() (string, error) { return maker(cfg) }, Boot: boot, Now: now, Log: d.Log,
	})
	d.metrics.Pool(func() metrics.Slots { return metrics.Slots(d.waiting.Figures()) })
}

func now() time.Duration {
	now, _ := clock.Now()
	return now
}

// maker is a digest of what a sandbox that waits was made by and of: this brigd, its whole
// configuration, and the runsc that the configured path leads to now.
func maker(cfg *config.Config) (string, error) {
	path, err := filepath.EvalSymlinks(cfg.Runsc.Path)
	if err != nil {
		return "", fmt.Errorf("look for runsc: %w", err)
	}
	runsc, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("look for runsc: %w", err)
	}
	settings := *cfg
	settings.Pool = config.Pool{} // how many wait, and how long, is nothing to them
	all, err := json.Marshal(settings)
	if err != nil {
		return "", fmt.Errorf("digest of the configuration: %w", err)
	}
	sum := sha256.New()
	fmt.Fprintf(sum, "%q %q %d %d %s", version.Version, path, runsc.Size(), runsc.ModTime().UnixNano(), all)
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// takable is nil where none are to wait.
func (d *daemon) takable() *pool.Pool {
	if d.Config.Pool.Max == 0 {
		return nil
	}
	return d.waiting
}
