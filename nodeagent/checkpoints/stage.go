package checkpoints

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"brig/internal/failpoint"
)

// Stage is a checkpoint that is being made.
type Stage struct {
	store *Store
	dir   string
}

// Begin makes the place for a checkpoint of that name, which must be free.
func (s *Store) Begin(owner uint32, name string) (*Stage, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	if _, err := os.Lstat(s.path(owner, name)); err == nil {
		return nil, taken(name)
	}
	if err := os.MkdirAll(s.folder(owner), 0o700); err != nil {
		return nil, fmt.Errorf("make checkpoint %s: %w", name, err)
	}
	dir, err := os.MkdirTemp(s.folder(owner), unnamed)
	if err != nil {
		return nil, fmt.Errorf("make checkpoint %s: %w", name, err)
	}
	return &Stage{store: s, dir: dir}, nil
}

func taken(name string) error {
	return errdefs.ErrAlreadyExists.WithMessage(fmt.Sprintf("there is a checkpoint %s: remove it first, or choose another name", name))
}

// Image is where the image is to be written. It does not exist yet.
func (s *Stage) Image() string { return filepath.Join(s.dir, imageFolder) }

// Runsc tells which build of gVisor has written the image, by the shim's manifest in it:
// a sandbox keeps the build that it was made with.
func (s *Stage) Runsc() (string, error) {
	data, err := os.ReadFile(filepath.Join(s.Image(), shimManifest))
	if err != nil {
		return "", fmt.Errorf("read which runsc wrote the image: %w", err)
	}
	var m struct {
		Runsc string `json:"runsc"`
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return "", fmt.Errorf("read which runsc wrote the image: %s: %w", shimManifest, err)
	}
	return m.Runsc, nil
}

// shimManifest is the shim's own file in an image.
const shimManifest = "brig.json"

// Commit gives the checkpoint its name, once all of it is on disk. It fills in the
// manifest's files and format.
func (s *Stage) Commit(m Manifest) (Manifest, error) {
	m.Format = format
	if err := s.commit(&m); err != nil {
		if errors.Is(err, fs.ErrExist) {
			err = taken(m.Name)
		}
		return Manifest{}, fmt.Errorf("keep checkpoint: %w", err)
	}
	return m, nil
}

func (s *Stage) commit(m *Manifest) error {
	var err error
	if m.Files, err = sums(s.Image(), true); err != nil {
		return err
	}
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(s.dir, manifestFile), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Sync(), f.Close(), syncDir(s.Image()), syncDir(s.dir)); err != nil {
		return err
	}
	failpoint.Hit("checkpoint.manifest")
	if err := unix.Renameat2(unix.AT_FDCWD, s.dir, unix.AT_FDCWD, s.store.path(m.Owner, m.Name), unix.RENAME_NOREPLACE); err != nil {
		return err
	}
	return errors.Join(syncDir(s.store.folder(m.Owner)), syncDir(s.store.dir))
}

// Discard removes what was not committed.
func (s *Stage) Discard() error { return os.RemoveAll(s.dir) }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sums reads every file of an image, syncing them if that is asked for. What is no plain
// file is an error.
func sums(dir string, sync bool) (map[string]File, error) {
	r, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	entries, err := fs.ReadDir(r.FS(), ".")
	if err != nil {
		return nil, err
	}
	files := make(map[string]File, len(entries))
	for _, e := range entries {
		if !e.Type().IsRegular() {
			return nil, fmt.Errorf("%s is no plain file: %w", e.Name(), errdefs.ErrInvalidArgument)
		}
		file, err := sum(r, e.Name(), sync)
		if err != nil {
			return nil, err
		}
		files[e.Name()] = file
	}
	return files, nil
}

func sum(r *os.Root, name string, sync bool) (File, error) {
	f, err := r.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return File{}, err
	}
	defer f.Close()
	if sync {
		if err := f.Sync(); err != nil {
			return File{}, err
		}
	}
	hash := crc32.New(castagnoli)
	n, err := io.CopyBuffer(hash, struct{ io.Reader }{f}, make([]byte, 1<<20))
	return File{Size: n, Sum: hash.Sum32()}, err
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
