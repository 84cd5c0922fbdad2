package nft

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"brig/internal/netns"
)

// trust is what was compared with the kernel last, as a file: as long as the namespace
// and its generation are these, the rules are what they were then.
type trust struct {
	Namespace  uint64 `json:"namespace"` // inode
	Generation uint32 `json:"generation"`
	Base       string `json:"base"` // sum of the text
}

// readTrust returns the zero trust, which is none, where there is no whole file.
func (r Rules) readTrust() (t trust) {
	data, err := os.ReadFile(r.file)
	if err != nil || json.Unmarshal(data, &t) != nil {
		return trust{}
	}
	return t
}

// look tells what is there, but for the base, and returns the reader that has looked.
func (r Rules) look() (reader, trust, error) {
	inode, err := netns.ID(r.path)
	if err != nil {
		return reader{}, trust{}, err
	}
	k, err := openReader(r.path)
	if err != nil {
		return reader{}, trust{}, err
	}
	generation, err := k.generation()
	if err != nil {
		k.Close()
		return reader{}, trust{}, err
	}
	return k, trust{Namespace: inode, Generation: generation}, nil
}

// distrust until the next writeTrust: whoever dies in between leaves rules that are
// compared and repaired.
func (r Rules) distrust() error {
	if err := os.Remove(r.file); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("note that the rules are about to change: %w", err)
	}
	return nil
}

func (r Rules) writeTrust(t trust) error {
	data, err := json.Marshal(t)
	if err != nil {
		return err
	}
	next := r.file + ".new"
	if err := errors.Join(os.MkdirAll(filepath.Dir(r.file), 0o700), os.WriteFile(next, data, 0o600), os.Rename(next, r.file)); err != nil {
		return fmt.Errorf("note the rules' generation: %w", err)
	}
	return nil
}

// sum names a base.
func (b Base) sum() string {
	sum := sha256.Sum256([]byte(transit(b, nil, 0).String()))
	return hex.EncodeToString(sum[:])
}
