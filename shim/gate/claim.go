package gate

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"brig/internal/config"
	"brig/internal/netns"
)

// holder of a network namespace: a sandbox and its sentry's process. A pid alone can
// come back as another process; its start time with it cannot.
type holder struct {
	Namespace string `json:"namespace"`
	ID        string `json:"id"`
	PID       int    `json:"pid"`
	Start     string `json:"start"` // in ticks since boot
}

func claimsDir(cfg *config.Config) string { return filepath.Join(cfg.NetworkDir(), "claims") }

func claimPath(cfg *config.Config, inode uint64) string {
	return filepath.Join(claimsDir(cfg), strconv.FormatUint(inode, 10))
}

// claim takes the namespace for the sandbox, unless a living sentry has it: two of
// them would read each other's packets.
func claim(cfg *config.Config, r Request, inode uint64) error {
	path := claimPath(cfg, inode)
	current, err := readClaim(path)
	if err != nil {
		return err
	}
	if current.alive(inode) && (current.PID != r.SentryPID || current.ID != r.ID || current.Namespace != r.Namespace) {
		return refuse("the sandbox's network namespace is taken by sandbox %s of containerd namespace %s: make another one", current.ID, current.Namespace)
	}
	start, err := startTime(r.SentryPID)
	if err != nil {
		return fmt.Errorf("claim the network namespace: %w", err)
	}
	data, err := json.Marshal(holder{Namespace: r.Namespace, ID: r.ID, PID: r.SentryPID, Start: start})
	if err != nil {
		return fmt.Errorf("claim the network namespace: %w", err)
	}
	if err := errors.Join(os.MkdirAll(claimsDir(cfg), 0o700), os.WriteFile(path+".new", data, 0o600), os.Rename(path+".new", path)); err != nil {
		return fmt.Errorf("claim the network namespace: %w", err)
	}
	return nil
}

// readClaim returns the zero holder where there is none.
func readClaim(path string) (holder, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return holder{}, nil
	}
	var h holder
	if err == nil {
		err = json.Unmarshal(data, &h)
	}
	if err != nil {
		return holder{}, fmt.Errorf("read claim of a network namespace: %w", err)
	}
	return h, nil
}

// alive tells whether the very process lives and is in the namespace still.
func (h holder) alive(inode uint64) bool {
	if h.PID <= 0 {
		return false
	}
	start, err := startTime(h.PID)
	if err != nil || start != h.Start {
		return false
	}
	id, err := netns.ID(fmt.Sprintf("/proc/%d/ns/net", h.PID))
	return err == nil && id == inode
}

// startTime is field 22 of the process's stat; the command's name before it may
// contain anything, but no later parenthesis.
func startTime(pid int) (string, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", err
	}
	after := string(data[strings.LastIndexByte(string(data), ')')+1:])
	fields := strings.Fields(after) // from field 3 on
	if len(fields) < 20 {
		return "", fmt.Errorf("stat of process %d is cut short", pid)
	}
	if fields[0] == "Z" || fields[0] == "X" {
		return "", os.ErrNotExist
	}
	return fields[19], nil
}

// release removes the sandbox's claims, and those of sentries that have ended.
func release(cfg *config.Config, namespace, id string) error {
	entries, err := os.ReadDir(claimsDir(cfg))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, e := range entries {
		path := filepath.Join(claimsDir(cfg), e.Name())
		h, err := readClaim(path)
		inode, parse := strconv.ParseUint(e.Name(), 10, 64)
		if err == nil && parse == nil && (h.Namespace != namespace || h.ID != id) && h.alive(inode) {
			continue
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("release the network namespace of %s: %w", id, err)
	}
	return nil
}
