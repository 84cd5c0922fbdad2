package checkpoints

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"brig/internal/sandbox"
	"brig/nodeagent/record"
)

// format of a manifest. One of another number is refused, not guessed at.
const format = 1

// Manifest tells what a checkpoint is and what can restore it.
type Manifest struct {
	Format    int        `json:"format"`
	Name      string     `json:"name"`
	Owner     uint32     `json:"owner"`
	Sandbox   sandbox.ID `json:"sandbox"` // that it was taken of
	CreatedAt time.Time  `json:"created_at"`
	Brig      string     `json:"brig"` // version that took it
	Host      Host       `json:"host"`
	// Image that the sandbox was made from, whose files it still reads.
	Image       string  `json:"image"`
	ImageDigest string  `json:"image_digest"`
	Program     Program `json:"program"`
	// Files of the image, by name.
	Files map[string]File `json:"files"`
}

// Program is what a restored sandbox cannot choose anew. Secrets are not told apart here:
// they are in the memory that was kept.
type Program struct {
	Argv    []string          `json:"argv,omitempty"`
	Env     map[string]string `json:"env,omitempty"`
	Workdir string            `json:"workdir,omitempty"`
	Mounts  []record.Mount    `json:"mounts,omitempty"`
	Stdin   bool              `json:"stdin,omitempty"`
	TTY     bool              `json:"tty,omitempty"`
	// The kernel that was kept enforces these.
	PIDs    uint64 `json:"pids,omitempty"`
	DiskMiB uint64 `json:"disk_mib,omitempty"`
}

// File of an image.
type File struct {
	Size int64 `json:"size"`
	// Sum is the CRC-32C of the content. It is there for disks that forget, not against
	// people: who can write here is root.
	Sum uint32 `json:"sum"`
}

// Size of all files in bytes.
func (m *Manifest) Size() (size uint64) {
	for _, f := range m.Files {
		size += uint64(max(f.Size, 0))
	}
	return size
}

// Host is what a checkpoint can be restored on.
type Host struct {
	// Runsc is the build of gVisor; no other can read the image.
	Runsc string `json:"runsc"`
	// CPU features that programs have seen, and may use. Sorted.
	CPU []string `json:"cpu"`
}

// Restorable tells whether m can be restored on h.
func (m *Manifest) Restorable(h Host) error {
	if m.Host.Runsc != h.Runsc {
		return errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf("checkpoint %s was taken by runsc %s, which alone can restore it; this node runs %s: take it anew", m.Name, m.Host.Runsc, h.Runsc))
	}
	var missing []string
	for _, feature := range m.Host.CPU {
		if _, ok := slices.BinarySearch(h.CPU, feature); !ok {
			missing = append(missing, feature)
		}
	}
	if len(missing) > 0 {
		return errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf("checkpoint %s was taken on a CPU with %s, which this one lacks: take it anew", m.Name, strings.Join(missing, ", ")))
	}
	return nil
}
