package stdio

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// openPTY makes a pseudoterminal. The master does not block a thread; the replica
// is for the process.
func openPTY() (master, replica *os.File, err error) {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("open pty: %w", err)
	}
	master = os.NewFile(uintptr(fd), "/dev/ptmx")
	if err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("unlock pty: %w", err), master.Close())
	}
	// TIOCGPTPEER rather than a path: the number may mean another pty in another
	// mount of devpts.
	peer, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		return nil, nil, errors.Join(fmt.Errorf("open pty's replica: %w", errno), master.Close())
	}
	return master, os.NewFile(peer, "pty"), nil
}

// keySignals are the signals that typed means, as the terminal is set now.
func keySignals(master *os.File, typed []byte) (out []unix.Signal) {
	conn, err := master.SyscallConn()
	if err != nil {
		return nil
	}
	var settings *unix.Termios // of the replica
	errControl := conn.Control(func(fd uintptr) { settings, err = unix.IoctlGetTermios(int(fd), unix.TCGETS) })
	if errControl != nil || err != nil || settings.Lflag&unix.ISIG == 0 {
		return nil
	}
	keys := map[byte]unix.Signal{
		settings.Cc[unix.VINTR]: unix.SIGINT, settings.Cc[unix.VQUIT]: unix.SIGQUIT, settings.Cc[unix.VSUSP]: unix.SIGTSTP,
	}
	delete(keys, 0) // a key that is switched off
	for _, b := range typed {
		if sig, ok := keys[b]; ok {
			out = append(out, sig)
		}
	}
	return out
}
