// Package socket makes brigd's listening socket and tells who is at the other end
// of a connection. It never replaces what it cannot prove to be a dead socket of
// brigd's own user: a live server, a link, a file or somebody else's socket at the
// path stops the start.
package socket

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Group may use the socket beside root, if the machine has it.
const Group = "brig"

// Listen listens at path with mode 0660 for root and Group.
func Listen(path string) (*net.UnixListener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("make the socket's folder: %w", err)
	}
	if err := clear(path); err != nil {
		return nil, err
	}
	// No instant in which the socket is open to others: bind obeys the mask.
	mask := unix.Umask(0o177)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	unix.Umask(mask)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	if err := admit(path); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// clear removes a stale socket.
func clear(path string) error {
	fi, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at socket %s: %w", path, err)
	}
	if fi.Mode().Type() != os.ModeSocket {
		return fmt.Errorf("%s is not a socket: remove it, or choose another socket path", path)
	}
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return fmt.Errorf("look at socket %s: %w", path, err)
	}
	if int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("socket %s belongs to uid %d: remove it, or choose another socket path", path, st.Uid)
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		return errors.Join(fmt.Errorf("socket %s is in use: another server listens there", path), conn.Close())
	}
	if !errors.Is(err, unix.ECONNREFUSED) {
		return fmt.Errorf("is anybody at socket %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove stale socket: %w", err)
	}
	return nil
}

func admit(path string) error {
	gid := os.Getegid()
	if g, err := user.LookupGroup(Group); err == nil {
		if n, err := strconv.Atoi(g.Gid); err == nil {
			gid = n
		}
	}
	if err := os.Lchown(path, os.Geteuid(), gid); err != nil {
		return fmt.Errorf("give the socket its group: %w", err)
	}
	if err := os.Chmod(path, 0o660); err != nil {
		return fmt.Errorf("open the socket to its group: %w", err)
	}
	return nil
}
