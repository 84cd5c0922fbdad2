package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Arm has brigd die at the first of the points that it comes to, its successor at the
// second, and so on; of one without Failpoints nothing comes of it. None disarms it.
func (n *Node) Arm(points ...string) error {
	path := filepath.Join(n.Dir, "armed")
	if err := os.WriteFile(path+".new", []byte(strings.Join(points, "\n")), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// Armed are the points that were not come to yet.
func (n *Node) Armed() ([]string, error) {
	data, err := os.ReadFile(filepath.Join(n.Dir, "armed"))
	if errors.Is(err, os.ErrNotExist) || len(data) == 0 {
		return nil, nil
	}
	return strings.Split(string(data), "\n"), err
}

// Hits are the points that brigd came to since the last time, each once, in order.
func (n *Node) Hits() ([]string, error) {
	path := filepath.Join(n.Dir, "hits")
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var points []string
	for _, p := range strings.Fields(string(data)) {
		if !slices.Contains(points, p) {
			points = append(points, p)
		}
	}
	return points, nil
}

// Died waits until brigd has ended.
func (n *Node) Died(patience time.Duration) error {
	select {
	case <-n.ended:
		return nil
	case <-time.After(patience):
		return fmt.Errorf("brigd lives on after %v", patience)
	}
}
