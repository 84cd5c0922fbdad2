package runsc

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// consoleTime bounds the wait for a console that runsc has sent, it says.
const consoleTime = 5 * time.Second

// Console is a socket over which runsc create hands out a terminal's master.
type Console struct {
	Name     string // of the socket, in the bundle, where runsc runs
	listener *net.UnixListener
}

// ListenConsole makes the socket in the bundle, which is closed to all but root.
func ListenConsole(bundle string) (*Console, error) {
	const name = "console.sock"
	// Through the folder's descriptor, since the path may not fit the kernel's 108 bytes.
	dir, err := os.Open(bundle)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), name), Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("console socket: %w", err)
	}
	l.SetUnlinkOnClose(false) // the descriptor of its path is closed by then
	return &Console{Name: name, listener: l}, nil
}

// Receive returns the master, non-blocking.
func (c *Console) Receive() (*os.File, error) {
	if err := c.listener.SetDeadline(time.Now().Add(consoleTime)); err != nil {
		return nil, err
	}
	conn, err := c.listener.AcceptUnix()
	if err != nil {
		return nil, fmt.Errorf("console: %w", err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(consoleTime)); err != nil {
		return nil, err
	}
	name, rights := make([]byte, 4096), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := conn.ReadMsgUnix(name, rights)
	if err != nil {
		return nil, fmt.Errorf("console: %w", err)
	}
	messages, err := unix.ParseSocketControlMessage(rights[:n])
	if err != nil || len(messages) != 1 {
		return nil, errors.Join(errors.New("console: runsc sent no terminal"), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return nil, fmt.Errorf("console: %w", err)
	}
	if err := unix.SetNonblock(fds[0], true); err != nil {
		return nil, errors.Join(err, unix.Close(fds[0]))
	}
	return os.NewFile(uintptr(fds[0]), "console"), nil
}

// Close ends the socket; its name goes with the bundle.
func (c *Console) Close() { c.listener.Close() }
