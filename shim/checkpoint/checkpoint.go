// Package checkpoint is the folder that a checkpointed sandbox is kept in: the files
// that runsc writes, and a manifest of brig's that tells what can restore them.
//
// A folder with a manifest is complete: it is written elsewhere, moved in file by
// file, and the manifest comes last. Nothing is synced; the manifest knows the sizes,
// so that what a power failure cut short is noticed.
//
// An image may have been carried around in a registry and is not trusted. Open refuses
// whatever is not a plain file of a known name: runsc opens these files as root, and
// would follow a link to one of the host's or act on a file of instructions. What is in
// the files is the sentry's to parse, behind its own walls; no policy is ever read
// from them. Who can write to the folder while it is used is trusted, as containerd is.
package checkpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/containerd/errdefs"
)

const manifestName = "brig.json"

// names of runsc's files in an image.
var names = []string{"checkpoint.img", "pages_meta.img", "pages.img"}

// maxManifest bounds what is read of a manifest: arguments may be long.
const maxManifest = 4 << 20

// Manifest tells what an image is.
type Manifest struct {
	Runsc string   `json:"runsc"` // the build, which alone can restore it
	Args  []string `json:"args"`  // of the program
	// Slot: the program had joined a sandbox that waited for it.
	Slot bool `json:"slot,omitempty"`
	// Unnamed: it has the hostname that it was booted with, in place of which gVisor gives it
	// the one of a restore.
	Unnamed bool `json:"unnamed,omitempty"`
	// DriverCapabilities are what the sandbox had of NVIDIA's driver; nil: nothing.
	DriverCapabilities []string         `json:"driver_capabilities,omitempty"`
	Files              map[string]int64 `json:"files"` // sizes; Commit fills them in
}

// Image under way.
type Image struct {
	path, stage string
	made        bool // path was not there before
}

// Create begins an image at path, which must be empty or not exist.
func Create(path string) (*Image, error) {
	i := &Image{path: path}
	switch err := os.Mkdir(path, 0o700); {
	case err == nil:
		i.made = true
	case !errors.Is(err, fs.ErrExist):
		return nil, fmt.Errorf("make checkpoint image: %w", err)
	default:
		entries, err := os.ReadDir(path)
		if err != nil {
			return nil, fmt.Errorf("make checkpoint image: %w", err)
		}
		if len(entries) > 0 {
			return nil, fmt.Errorf("make checkpoint image: %s has %s in it, choose an empty folder: %w",
				path, entries[0].Name(), errdefs.ErrAlreadyExists)
		}
	}
	var err error
	// Inside, so that it is the same file system whatever is mounted there.
	if i.stage, err = os.MkdirTemp(path, ".unfinished-"); err != nil {
		return nil, errors.Join(fmt.Errorf("make checkpoint image: %w", err), i.Discard())
	}
	return i, nil
}

// Dir is where runsc is to write.
func (i *Image) Dir() string { return i.stage }

// Commit makes the image what Open accepts.
func (i *Image) Commit(m Manifest) error {
	m.Files = make(map[string]int64, len(names))
	for _, name := range names {
		fi, err := os.Lstat(filepath.Join(i.stage, name))
		if err != nil {
			return fmt.Errorf("finish checkpoint image: %w", err)
		}
		m.Files[name] = fi.Size()
	}
	data, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("finish checkpoint image: %w", err)
	}
	if err := os.WriteFile(filepath.Join(i.stage, manifestName), data, 0o600); err != nil {
		return fmt.Errorf("finish checkpoint image: %w", err)
	}
	for _, name := range append(names[:len(names):len(names)], manifestName) {
		// A sandbox's memory is its owner's.
		from := filepath.Join(i.stage, name)
		if err := errors.Join(os.Chmod(from, 0o600), os.Rename(from, filepath.Join(i.path, name))); err != nil {
			return fmt.Errorf("finish checkpoint image: %w", err)
		}
	}
	if err := os.Remove(i.stage); err != nil {
		return fmt.Errorf("finish checkpoint image: %w", err)
	}
	return nil
}

// Discard takes away what there is of an image that was not committed.
func (i *Image) Discard() error {
	var errs []error
	for _, name := range append(names[:len(names):len(names)], manifestName) {
		if err := os.Remove(filepath.Join(i.path, name)); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	if i.stage != "" {
		errs = append(errs, os.RemoveAll(i.stage))
	}
	if i.made {
		errs = append(errs, os.Remove(i.path))
	}
	return errors.Join(errs...)
}

// Open reads the manifest of a complete image.
func Open(path string) (Manifest, error) {
	m, err := open(path)
	if err != nil {
		return Manifest{}, fmt.Errorf("checkpoint image %s: %w", path, err)
	}
	return m, nil
}

func open(path string) (m Manifest, err error) {
	entries, err := os.ReadDir(path)
	if err != nil {
		return Manifest{}, err
	}
	sizes := make(map[string]int64, len(entries))
	for _, e := range entries {
		fi, err := e.Info()
		if err != nil {
			return Manifest{}, err
		}
		if !fi.Mode().IsRegular() {
			return Manifest{}, fmt.Errorf("%s is no plain file: %w", e.Name(), errdefs.ErrInvalidArgument)
		}
		sizes[e.Name()] = fi.Size()
	}
	if _, ok := sizes[manifestName]; !ok {
		return Manifest{}, fmt.Errorf("no %s: it was not made by brig, or not finished: %w", manifestName, errdefs.ErrInvalidArgument)
	}
	if m, err = readManifest(filepath.Join(path, manifestName)); err != nil {
		return Manifest{}, fmt.Errorf("%s: %w: %w", manifestName, err, errdefs.ErrInvalidArgument)
	}
	for _, name := range names {
		size, ok := sizes[name]
		if want, known := m.Files[name]; !ok || !known || size != want {
			return Manifest{}, fmt.Errorf("%s is missing or not whole: %w", name, errdefs.ErrInvalidArgument)
		}
		delete(sizes, name)
	}
	delete(sizes, manifestName)
	for name := range sizes {
		return Manifest{}, fmt.Errorf("%s does not belong there: %w", name, errdefs.ErrInvalidArgument)
	}
	return m, nil
}

func readManifest(path string) (m Manifest, err error) {
	f, err := os.Open(path)
	if err != nil {
		return Manifest{}, err
	}
	defer f.Close()
	d := json.NewDecoder(io.LimitReader(f, maxManifest))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		return Manifest{}, err
	}
	if m.Runsc == "" || len(m.Args) == 0 {
		return Manifest{}, errors.New("it does not tell the build of runsc or the program")
	}
	return m, nil
}

// Restorable tells whether the runsc of the given build can restore m in a sandbox that has
// the given capabilities of NVIDIA's driver. The sentry's part for it is in the image, and
// is there from the boot or never.
func (m Manifest) Restorable(build string, capabilities []string) error {
	if m.Runsc != build {
		return fmt.Errorf("the checkpoint was made by runsc %s and this node runs %s; restore it where that build is installed: %w",
			m.Runsc, build, errdefs.ErrFailedPrecondition)
	}
	if !slices.Equal(m.DriverCapabilities, capabilities) {
		return fmt.Errorf("the checkpoint was made with the capabilities %q of NVIDIA's driver, and this sandbox has %q; ask for GPUs as then: %w",
			m.DriverCapabilities, capabilities, errdefs.ErrFailedPrecondition)
	}
	return nil
}
