package checkpoints

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"brig/internal/sandbox"
)

// maxManifest bounds what is read of one: arguments and an environment may be long.
const maxManifest = 4 << 20

// read returns a manifest; fs.ErrNotExist if there is no such checkpoint.
func (s *Store) read(owner uint32, name string) (Manifest, error) {
	r, err := os.OpenRoot(s.path(owner, name))
	if err != nil {
		return Manifest{}, err
	}
	defer r.Close()
	m, err := readManifest(r)
	if err == nil && (m.Name != name || m.Owner != owner) {
		err = fmt.Errorf("it is of checkpoint %q of uid %d", m.Name, m.Owner)
	}
	if err != nil {
		return Manifest{}, damaged(name, err)
	}
	return m, nil
}

func readManifest(r *os.Root) (m Manifest, err error) {
	f, err := r.Open(manifestFile)
	if err != nil {
		return m, err
	}
	defer f.Close()
	d := json.NewDecoder(io.LimitReader(f, maxManifest))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		return m, err
	}
	if _, err := d.Token(); err != io.EOF {
		return m, fmt.Errorf("more than one value")
	}
	return m, m.check()
}

// check refuses what no brigd writes.
func (m *Manifest) check() error {
	if m.Format != format {
		return fmt.Errorf("format %d, want %d", m.Format, format)
	}
	if _, err := sandbox.ParseID(string(m.Sandbox)); err != nil {
		return err
	}
	if _, err := digest.Parse(m.ImageDigest); err != nil {
		return fmt.Errorf("image digest: %w", err)
	}
	if m.Image == "" || m.Host.Runsc == "" || len(m.Host.CPU) == 0 || !slices.IsSorted(m.Host.CPU) || len(m.Files) == 0 {
		return fmt.Errorf("image, runsc, CPU or files are missing")
	}
	return nil
}

func damaged(name string, err error) error {
	return errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf("checkpoint %s is damaged, remove it: %v", name, err))
}

// Hold keeps a checkpoint from being removed until release is called, and returns the path
// of its image, all of which it has read and found as the manifest says. It waits, as long
// as ctx allows, while many others are read.
func (s *Store) Hold(ctx context.Context, m Manifest) (image string, release func(), err error) {
	select {
	case s.reading <- struct{}{}:
		defer func() { <-s.reading }()
	case <-ctx.Done():
		return "", nil, fmt.Errorf("wait to read checkpoint %s: %w", m.Name, context.Cause(ctx))
	}
	path := s.path(m.Owner, m.Name)
	s.hold(path, 1)
	if err := verify(filepath.Join(path, imageFolder), m.Files); err != nil {
		s.hold(path, -1)
		if _, errStat := os.Lstat(path); errors.Is(errStat, fs.ErrNotExist) {
			return "", nil, missing(m.Name) // since it was found
		}
		return "", nil, damaged(m.Name, err)
	}
	return filepath.Join(path, imageFolder), func() { s.hold(path, -1) }, nil
}

func (s *Store) hold(path string, by int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held[path] += by; s.held[path] == 0 {
		delete(s.held, path)
	}
}

func verify(dir string, want map[string]File) error {
	got, err := sums(dir, false)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		switch f, ok := got[name]; {
		case !ok:
			return fmt.Errorf("%s is missing", name)
		case f.Size != want[name].Size:
			return fmt.Errorf("%s has %d bytes, not %d", name, f.Size, want[name].Size)
		case f != want[name]:
			return fmt.Errorf("the content of %s has changed", name)
		}
		delete(got, name)
	}
	for name := range got {
		return fmt.Errorf("%s does not belong there", name)
	}
	return nil
}
