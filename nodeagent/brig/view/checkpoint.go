package view

import (
	"time"

	brigv1 "brig/nodeagent/api/brig/v1"
)

// Checkpoint is a sandbox that was kept.
type Checkpoint struct {
	Name        string     `json:"name"`
	OwnerUID    uint32     `json:"owner_uid"`
	Sandbox     string     `json:"sandbox"`
	Image       string     `json:"image"`
	ImageDigest string     `json:"image_digest"`
	Size        uint64     `json:"size"`
	Runsc       string     `json:"runsc_version"`
	CreatedAt   *time.Time `json:"created_at,omitempty"`
}

// OfCheckpoint converts a checkpoint.
func OfCheckpoint(c *brigv1.Checkpoint) Checkpoint {
	return Checkpoint{
		Name: c.GetName(), OwnerUID: c.GetOwnerUid(), Sandbox: c.GetSandbox(), Image: c.GetImage(), ImageDigest: c.GetImageDigest(),
		Size: c.GetSize(), Runsc: c.GetRunscVersion(), CreatedAt: moment(c.GetCreatedAt()),
	}
}

// OfCheckpoints converts a list.
func OfCheckpoints(in []*brigv1.Checkpoint) []Checkpoint { return each(in, OfCheckpoint) }

// CheckpointRows are columns for people.
func CheckpointRows(in []Checkpoint, now time.Time) [][]string {
	rows := [][]string{{"NAME", "SANDBOX", "IMAGE", "SIZE", "CREATED"}}
	for _, c := range in {
		rows = append(rows, []string{c.Name, c.Sandbox, c.Image, Bytes(c.Size), dash(ago(c.CreatedAt, now))})
	}
	return rows
}
