package main

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// standByEnv names the descriptor of a socket on which a runsc that is loaded before it is
// needed says so, by one byte, and waits to be told that it is, by another. With that come
// its stdin, stdout and stderr. Nobody tells it when the other end is closed.
const standByEnv = "BRIG_STANDBY_FD"

// waited tells that this process was loaded before it was needed. waiting is the gofer that it
// has for its container; nil: none, or not any more.
var (
	waited  bool
	waiting *spare
)

// takeSpare hands the gofer that waits over, once.
func takeSpare() *spare {
	s := waiting
	waiting = nil
	return s
}

// standBy returns when it is needed, at once unless it was loaded before.
func standBy() {
	socket, err := strconv.Atoi(os.Getenv(standByEnv))
	if err != nil || os.Unsetenv(standByEnv) != nil {
		return
	}
	waited = true
	unix.CloseOnExec(socket)
	waiting, err = startSpare()
	if err != nil { // one is executed when it is needed
		fmt.Fprintln(os.Stderr, "no gofer waits:", err)
	}
	needed, err := called(socket)
	if err != nil || !needed {
		takeSpare().end()
	}
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "stand by:", err)
		os.Exit(128)
	case !needed:
		os.Exit(0)
	}
}

func called(socket int) (needed bool, err error) {
	if _, err := unix.Write(socket, []byte{0}); err != nil {
		return false, err
	}
	rights := make([]byte, unix.CmsgSpace(3*4))
	n, told := 0, 0
	for {
		n, told, _, _, err = unix.Recvmsg(socket, make([]byte, 1), rights, unix.MSG_CMSG_CLOEXEC)
		if err != unix.EINTR {
			break
		}
	}
	if err != nil || n == 0 {
		return false, err
	}
	return true, takeOver(rights[:told])
}

// takeOver makes three descriptors the standard ones.
func takeOver(rights []byte) error {
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil || len(messages) != 1 {
		return fmt.Errorf("no streams came with the word: %v", err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 3 {
		return fmt.Errorf("%d streams came with the word: %v", len(fds), err)
	}
	for i, fd := range fds {
		if err := unix.Dup3(fd, i, 0); err != nil {
			return err
		}
		if err := unix.Close(fd); err != nil {
			return err
		}
	}
	return nil
}
