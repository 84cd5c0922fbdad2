// Package baddisk gives tests real disks that go wrong: one that is small, so that it is
// soon full, and one whose writes fail with EIO when the test wants. Both need root and go
// away with the test.
package baddisk

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"brig/internal/require"
)

// Small mounts a disk of a size such as "4m" and returns its folder. options are those
// of a tmpfs, such as "nr_inodes=100"; may be empty.
func Small(t testing.TB, size, options string) string {
	t.Helper()
	require.Root(t)
	dir, err := os.MkdirTemp("/tmp", "brig-disk-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(dir) })
	if options != "" {
		options = "," + options
	}
	mount(t, "tmpfs", dir, "tmpfs", "size="+size+options)
	return dir
}

// Fill takes all the room of a disk; the returned function gives it back.
func Fill(t testing.TB, disk string) (free func()) {
	t.Helper()
	path := filepath.Join(disk, "fill")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, size := range []int{1 << 16, 1 << 12, 1} {
		for block := make([]byte, size); err == nil; {
			_, err = f.Write(block)
		}
		if !errors.Is(err, unix.ENOSPC) {
			t.Fatal(err)
		}
		err = nil
	}
	return func() {
		if err := os.Remove(path); err != nil {
			t.Error(err)
		}
	}
}

// Litter takes all the inodes of a disk; the returned function gives them back.
func Litter(t testing.TB, disk string) (free func()) {
	t.Helper()
	dir := filepath.Join(disk, "litter")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	var err error
	for i := 0; err == nil; i++ {
		err = unix.Mknod(filepath.Join(dir, strconv.Itoa(i)), unix.S_IFREG|0o600, 0)
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	return func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	}
}

// Failing mounts an ext4 whose device fails every write to a new place once fail was
// called: the file that it stands in has no room. Writes then fail with EIO, at the
// latest when they are synced.
func Failing(t testing.TB) (dir string, fail func()) {
	t.Helper()
	below := Small(t, "12m", "")
	image := filepath.Join(below, "image")
	run(t, "truncate", "--size=64M", image)
	run(t, "mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0", image)
	dir, err := os.MkdirTemp("/tmp", "brig-disk-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(dir) })
	run(t, "mount", "-o", "loop", image, dir)
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir, func() { Fill(t, below) }
}

func mount(t testing.TB, source, target, kind, options string) {
	t.Helper()
	if err := unix.Mount(source, target, kind, 0, options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(target, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

func run(t testing.TB, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v: %s", args, err, out)
	}
}
