package verify

import (
	"context"
	"path/filepath"
	"strings"

	"brig/internal/sandbox"
	"brig/nodeagent/execs"
)

// saved lists checkpoints, and what is unfinished of them and of snapshots.
func (p *Parts) saved(context.Context) (lines []Line, err error) {
	stages, err := filepath.Glob(filepath.Join(p.Config.SnapshotsDir(), "*"))
	if err != nil {
		return nil, err
	}
	for _, path := range stages {
		lines = append(lines, Line{Kind: "unfinished snapshot", Owner: idPattern.FindString(filepath.Base(path)), Detail: path})
	}
	// Glob's star finds names that begin with a dot, too.
	found, err := filepath.Glob(filepath.Join(p.Config.CheckpointsDir(), "*", "*"))
	if err != nil {
		return nil, err
	}
	for _, path := range found {
		kind := "checkpoint"
		if strings.HasPrefix(filepath.Base(path), ".") {
			kind = "unfinished checkpoint"
		}
		lines = append(lines, Line{Kind: kind, Detail: path})
	}
	return lines, nil
}

// execs lists those that have a folder in their sandbox's.
func (p *Parts) execs(context.Context) (lines []Line, err error) {
	folders, err := filepath.Glob(p.Config.JournalDir("*"))
	if err != nil {
		return nil, err
	}
	for _, folder := range folders {
		owner := filepath.Base(folder)
		if _, err := sandbox.ParseID(owner); err != nil {
			continue
		}
		whole, half, err := execs.Recorded(folder)
		if err != nil {
			return nil, err
		}
		for _, id := range whole {
			lines = append(lines, Line{Kind: "exec", Owner: owner, Detail: id})
		}
		for _, id := range half {
			lines = append(lines, Line{Kind: "half-made exec", Owner: owner, Detail: id})
		}
	}
	return lines, nil
}
