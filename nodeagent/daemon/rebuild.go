package daemon

import (
	"path/filepath"

	"brig/internal/config"
	"brig/nodeagent/store"
)

// recordCopy is the name of a record's copy in its sandbox's folder.
const recordCopy = "record.json"

func storePath(cfg *config.Config) string { return filepath.Join(cfg.StateDir, "brig.db") }

// RebuildStore makes a new store of the copies of the node's records. The node's brigd
// must not run; its sandboxes may.
func RebuildStore(cfg *config.Config, force bool) (store.Rebuilt, error) {
	return store.Rebuild(storePath(cfg), filepath.Dir(cfg.JournalDir("any")), recordCopy, force)
}
