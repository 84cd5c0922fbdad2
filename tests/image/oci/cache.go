package oci

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// cache is a directory of finished files, held under an exclusive file lock
// while it is open. Files appear by rename, so what is there is whole.
type cache struct {
	dir  string
	lock *os.File
}

// Root returns the directory of the module that the working directory is in.
// Tests run in their package's folder, commands wherever they are called.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
	}
	return "", errors.New("no go.mod above the working directory: run this inside the repository")
}

func openCache() (*cache, error) {
	root, err := Root()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(root, ".cache", "image")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", lock.Name(), err), lock.Close())
	}
	return &cache{dir: dir, lock: lock}, nil
}

func (c *cache) close() { _ = c.lock.Close() }

// file returns the path of a finished file, made by make if it is not there.
func (c *cache) file(name string, make func(path string) error) (string, error) {
	path := filepath.Join(c.dir, name)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	part := path + ".part"
	defer os.Remove(part)
	if err := make(part); err != nil {
		return "", err
	}
	return path, os.Rename(part, path)
}
