// Package netns makes, finds and enters network namespaces. It is the only place
// where brig calls setns.
//
// A named namespace is a bind mount under Dir, where `ip netns` looks for it too.
// The host's namespace is that of the calling process: nothing here reaches for
// another one's, so a whole node can be run in a namespace of its own.
package netns

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// Dir holds the named namespaces.
const Dir = "/run/netns"

// Path of the namespace name.
func Path(name string) string { return filepath.Join(Dir, name) }

// Do runs fn on a thread in the namespace at path. fn must not start goroutines that
// count on the namespace; sockets and child processes that it makes belong to it.
func Do(path string, fn func() error) error {
	target, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open network namespace: %w", err)
	}
	defer target.Close()
	return onThread(func() error { return visit(target, fn) })
}

// onThread runs fn on a locked thread other than the process's first: that one
// is what /proc/self shows, and the runtime cannot end it.
func onThread(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			defer runtime.UnlockOSThread()
			done <- onThread(fn) // while this thread is held, it gets another
			return
		}
		done <- fn()
	}()
	return <-done
}

// visit unlocks its thread only if it brought it home: else the runtime ends the
// thread with its goroutine, and no other goroutine ever runs on it.
func visit(target *os.File, fn func() error) error {
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("open own network namespace: %w", err)
	}
	defer home.Close()
	if err := unix.Setns(int(target.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter network namespace %s: %w", target.Name(), err)
	}
	result := fn()
	if err := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); err == nil {
		runtime.UnlockOSThread()
	}
	return result
}

// Create makes the namespace name. One that exists is os.ErrExist.
func Create(name string) (err error) {
	if err := prepareDir(); err != nil {
		return err
	}
	path := Path(name)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDONLY|unix.O_NOFOLLOW, 0o444)
	if err != nil {
		return fmt.Errorf("create network namespace %s: %w", name, err)
	}
	f.Close()
	if err := onThread(func() error { return mountNew(path) }); err != nil {
		os.Remove(path)
		return fmt.Errorf("create network namespace %s: %w", name, err)
	}
	return nil
}

// mountNew leaves its thread in the new namespace, so it is never unlocked.
func mountNew(path string) error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Mount("/proc/thread-self/ns/net", path, "none", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind mount: %w", err)
	}
	return nil
}

// prepareDir makes Dir a shared mount of its own, as `ip netns` does, so that
// namespaces made by either are seen, and can be removed, in every mount namespace.
func prepareDir() error {
	if err := os.MkdirAll(Dir, 0o755); err != nil {
		return err
	}
	if unix.Mount("", Dir, "none", unix.MS_SHARED|unix.MS_REC, "") == nil {
		return nil
	}
	if err := unix.Mount(Dir, Dir, "none", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("bind mount %s: %w", Dir, err)
	}
	if err := unix.Mount("", Dir, "none", unix.MS_SHARED|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("share mount %s: %w", Dir, err)
	}
	return nil
}

// Delete removes the namespace name. One that is not there is no error, and neither
// is a name whose mount was never made.
func Delete(name string) error {
	path := Path(name)
	if err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil &&
		!errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount network namespace %s: %w", name, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove network namespace %s: %w", name, err)
	}
	return nil
}

// Exists tells whether name is a namespace, not just the file of a half-made one.
func Exists(name string) bool {
	var fs unix.Statfs_t
	return unix.Statfs(Path(name), &fs) == nil && fs.Type == unix.NSFS_MAGIC
}

// ID of the namespace at path: the inode of its nsfs file, unique while it lives.
func ID(path string) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, fmt.Errorf("stat network namespace %s: %w", path, err)
	}
	return st.Ino, nil
}
