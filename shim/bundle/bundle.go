// Package bundle is what the shim reads from and keeps in a container's bundle, the
// folder that containerd makes for a task and removes with it.
//
// containerd's config.json is read and never written. What runsc gets to see is a
// copy, made from it by Normalize and kept with everything else of brig's in the
// subfolder Dir, so that a second attempt starts from the same input. Records are
// written, synced, renamed and their folder synced before a write returns: the
// verb that cleans up after a dead shim reads them.
package bundle

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"brig/shim/runsc"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Bundle is the path of a containerd bundle.
type Bundle string

// Dir is brig's own folder in the bundle, and the bundle that runsc is shown.
func (b Bundle) Dir() string { return filepath.Join(string(b), "brig") }

// Rootfs is where the task's root filesystem is mounted if containerd gave mounts.
func (b Bundle) Rootfs() string { return filepath.Join(string(b), "rootfs") }

// PIDFile gets the sentry's pid.
func (b Bundle) PIDFile() string { return filepath.Join(b.Dir(), "pid") }

// Record is what is needed to undo a create, written before it.
type Record struct {
	Namespace string      `json:"namespace"`
	ID        string      `json:"id"`
	Container string      `json:"container"`        // runsc's name for it
	Joined    bool        `json:"joined,omitempty"` // it is not the sandbox's root container
	Runsc     runsc.Runsc `json:"runsc"`
	// Cgroup that the create makes; empty if it was there before, and is to stay.
	Cgroup string `json:"cgroup,omitempty"`
}

// Exit of a task's program.
type Exit struct {
	PID  int       `json:"pid"`
	Code uint32    `json:"code"`
	At   time.Time `json:"at"`
	OOM  bool      `json:"oom,omitempty"`
}

// Spec reads containerd's config.json. A field that this version does not know is an
// error: what runsc gets is written from what was read, and would lack it.
func (b Bundle) Spec() (*specs.Spec, error) {
	var s specs.Spec
	if err := readJSON(filepath.Join(string(b), "config.json"), &s, true); err != nil {
		return nil, fmt.Errorf("read OCI spec: %w", err)
	}
	return &s, nil
}

// WriteSpec gives runsc its config.json. It is no record: runsc reads it at once, and a power
// failure takes the sandbox with it.
func (b Bundle) WriteSpec(s *specs.Spec) error {
	if err := replaceJSON(filepath.Join(b.Dir(), "config.json"), s, noSync); err != nil {
		return fmt.Errorf("write OCI spec: %w", err)
	}
	return nil
}

// Record reads the record; os.ErrNotExist if no create began.
func (b Bundle) Record() (r Record, err error) {
	if err := readJSON(filepath.Join(b.Dir(), "record.json"), &r, false); err != nil {
		return Record{}, fmt.Errorf("read record: %w", err)
	}
	return r, nil
}

// WriteRecord makes r durable.
func (b Bundle) WriteRecord(r Record) error {
	if err := writeJSON(filepath.Join(b.Dir(), "record.json"), r); err != nil {
		return fmt.Errorf("write record: %w", err)
	}
	return nil
}

// NoteRecord writes r for whoever comes after a dead shim, not for after a power failure.
// It is enough where another record, which is durable, has all of it removed.
func (b Bundle) NoteRecord(r Record) error {
	if err := replaceJSON(filepath.Join(b.Dir(), "record.json"), r, noSync); err != nil {
		return fmt.Errorf("write record: %w", err)
	}
	return nil
}

// RemoveRecord says that nothing is left of what was made.
func (b Bundle) RemoveRecord() error {
	err := os.Remove(filepath.Join(b.Dir(), "record.json"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// Exit reads how the program ended; os.ErrNotExist if that is not on record.
func (b Bundle) Exit() (e Exit, err error) {
	if err := readJSON(filepath.Join(b.Dir(), "exit.json"), &e, false); err != nil {
		return Exit{}, fmt.Errorf("read exit status: %w", err)
	}
	return e, nil
}

// WriteExit makes e durable.
func (b Bundle) WriteExit(e Exit) error {
	if err := writeJSON(filepath.Join(b.Dir(), "exit.json"), e); err != nil {
		return fmt.Errorf("write exit status: %w", err)
	}
	return nil
}

func writeJSON(path string, v any) error {
	if err := replaceJSON(path, v, (*os.File).Sync); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func noSync(*os.File) error { return nil }

func replaceJSON(path string, v any, sync func(*os.File) error) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, sync(f), f.Close()); err != nil {
		return errors.Join(err, os.Remove(path+".new"))
	}
	return os.Rename(path+".new", path)
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
