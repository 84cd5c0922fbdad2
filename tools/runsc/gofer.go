package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

const (
	// goferName is what gVisor has its gofers called.
	goferName = "runsc-gofer"

	// spareEnv names the descriptor of a socket on which a gofer that was started before there
	// is anything for it to serve is told what it is. It ends with the other end.
	spareEnv = "BRIG_SPARE_FD"

	// The descriptors that a gofer is given are numbers from firstFD on. A spare has so many
	// reserved, which what Go opens at its start would else take.
	firstFD  = 3
	reserved = 60
	spareFD  = firstFD + reserved

	// ringFD is the io_uring that gVisor gives every gofer to hold. Where a program joins a
	// sandbox nobody else has it, nor can it be sent, so that a spare has one from its start.
	ringFD = spareFD + 1

	// With the last one handed down at the exec the table need not grow afterwards, which
	// has a process with threads wait for a grace period of the kernel's.
	lastFD = 255
	// maxFDs come with an order.
	maxFDs = 120
)

// serveLater returns when there is something to serve, at once unless the process is a spare.
// From there on it is a gofer like those that were executed for it.
func serveLater() {
	socket, err := strconv.Atoi(os.Getenv(spareEnv))
	if err != nil || os.Unsetenv(spareEnv) != nil {
		return
	}
	unix.CloseOnExec(socket)
	unix.Close(lastFD)
	o, fds, err := receive(socket)
	if err == nil && o == nil {
		os.Exit(0)
	}
	if err == nil {
		err = o.carryOut(socket, fds)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "a gofer that waited:", err)
		os.Exit(128)
	}
}

// receive waits for the order; nil: there will be none.
func receive(socket int) (*order, []int, error) {
	// Mounts of the host may go while this process waits, and nothing that it does is theirs.
	if err := unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return nil, nil, err
	}
	text, rights := make([]byte, 1<<17), make([]byte, unix.CmsgSpace(maxFDs*4))
	if err := dropBounding(); err != nil {
		return nil, nil, err
	}
	var n, told, flags int
	for {
		var err error
		if n, told, flags, _, err = unix.Recvmsg(socket, text, rights, unix.MSG_CMSG_CLOEXEC); err == nil {
			break
		} else if err != unix.EINTR {
			return nil, nil, err
		}
	}
	if n == 0 {
		return nil, nil, nil
	}
	if flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		return nil, nil, fmt.Errorf("an order that is too long")
	}
	o := new(order)
	if err := json.Unmarshal(text[:n], o); err != nil {
		return nil, nil, err
	}
	messages, err := unix.ParseSocketControlMessage(rights[:told])
	if err != nil || len(messages) != 1 {
		return nil, nil, fmt.Errorf("no descriptors came with the order: %v", err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err == nil && (len(fds) != len(o.Mounts)+len(o.Files)) {
		err = fmt.Errorf("%d descriptors came with the order", len(fds))
	}
	return o, fds, err
}

// carryOut makes the process what it was told to be, and says so.
func (o *order) carryOut(socket int, fds []int) error {
	for i, path := range o.Mounts {
		if err := unix.MoveMount(fds[i], "", unix.AT_FDCWD, path, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
			return fmt.Errorf("mount %s: %w", path, err)
		}
		unix.Close(fds[i])
	}
	taken := map[int]bool{}
	for i, fd := range append(fds[len(o.Mounts):], ringFD) {
		number := o.Ring
		if i < len(o.Files) {
			number = o.Files[i]
		}
		if number != 0 {
			if number < firstFD || number >= spareFD || taken[number] {
				return fmt.Errorf("descriptor %d cannot be given", number)
			}
			if err := unix.Dup3(fd, number, 0); err != nil {
				return err
			}
			taken[number] = true
		}
		unix.Close(fd)
	}
	for fd := firstFD; fd < spareFD; fd++ {
		if !taken[fd] {
			unix.Close(fd)
		}
	}
	if _, err := unix.Write(socket, []byte{0}); err != nil {
		return err
	}
	unix.Close(socket)
	os.Args = o.Args
	return nil
}
