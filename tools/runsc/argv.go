package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// argvEnv names the descriptor of a socket over which a runsc that was loaded before its
// command was known gets it. It says by one byte that it is loaded. Nobody tells it anything
// when the other end is closed.
const argvEnv = "BRIG_ARGV_FD"

// command is what it is told, as JSON, with its length before it in four bytes, the lowest
// first. With the first byte come its stdin, stdout and stderr.
type command struct {
	Dir  string   `json:"dir"` // absolute
	Args []string `json:"args"`
}

// maxCommand bounds what is read of one.
const maxCommand = 1 << 20

// takeCommand returns when os.Args are those of this process, at once unless it was loaded
// before.
func takeCommand() {
	socket, err := strconv.Atoi(os.Getenv(argvEnv))
	if err != nil || os.Unsetenv(argvEnv) != nil {
		return
	}
	c, err := readCommand(socket)
	switch {
	case err == io.EOF:
		os.Exit(0)
	case err == nil:
		err = os.Chdir(c.Dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "take a command:", err)
		os.Exit(128)
	}
	os.Args = append(os.Args[:1], c.Args...)
}

func readCommand(socket int) (c command, err error) {
	if _, err := unix.Write(socket, []byte{0}); err == unix.EPIPE {
		return c, io.EOF
	} else if err != nil {
		return c, err
	}
	var length [4]byte
	rights := make([]byte, unix.CmsgSpace(3*4))
	n, told := 0, 0
	for {
		n, told, _, _, err = unix.Recvmsg(socket, length[:], rights, unix.MSG_CMSG_CLOEXEC|unix.MSG_WAITALL)
		if err != unix.EINTR {
			break
		}
	}
	switch {
	case err == unix.ECONNRESET, err == nil && n == 0: // closed, before or after it has read our byte
		return c, io.EOF
	case err != nil:
		return c, err
	case n < len(length):
		return c, io.ErrUnexpectedEOF
	}
	if err := takeOver(rights[:told]); err != nil {
		return c, err
	}
	size := int(length[0]) | int(length[1])<<8 | int(length[2])<<16 | int(length[3])<<24
	if size > maxCommand {
		return c, fmt.Errorf("a command of %d bytes, want at most %d", size, maxCommand)
	}
	data := make([]byte, size)
	for got := 0; got < size; got += n {
		n, err = unix.Read(socket, data[got:])
		switch {
		case err == unix.EINTR:
			n = 0
		case err != nil:
			return c, err
		case n == 0:
			return c, io.ErrUnexpectedEOF
		}
	}
	return c, json.Unmarshal(data, &c)
}
