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

// termios are the settings of the replica.
func termios(master *os.File) (settings *unix.Termios, err error) {
	conn, err := master.SyscallConn()
	if err != nil {
		return nil, err
	}
	errControl := conn.Control(func(fd uintptr) { settings, err = unix.IoctlGetTermios(int(fd), unix.TCGETS) })
	return settings, errors.Join(errControl, err)
}

// keySignals are the signals that typed means, as the terminal is set now.
func keySignals(master *os.File, typed []byte) (out []unix.Signal) {
	settings, err := termios(master)
	if err != nil || settings.Lflag&unix.ISIG == 0 {
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

// typeEOF types what ends a terminal's input, if lines are what is read from it: twice,
// because the first only ends a line that has begun. A reader that goes on sees its end
// again.
func typeEOF(master *os.File) {
	settings, err := termios(master)
	if err != nil || settings.Lflag&unix.ICANON == 0 || settings.Cc[unix.VEOF] == 0 {
		return
	}
	key := settings.Cc[unix.VEOF]
	_, _ = master.Write([]byte{key, key}) // an error: nobody reads it any more
}
