package sni

import (
	"errors"
	"io"
	"testing"

	"golang.org/x/sys/unix"
)

// A connection that waits for bytes holds no buffer: there are thousands of them.
func TestWaitingHoldsNoBuffer(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[1])
	errWait := errors.New("nothing to read")
	read := func(try func(uintptr) bool) error {
		if try(uintptr(fds[1])) {
			return nil
		}
		return errWait
	}
	if buffer, n, err := receive(read); buffer != nil || n != 0 || !errors.Is(err, errWait) {
		t.Errorf("without data: a buffer %t, %d octets, %v", buffer != nil, n, err)
	}
	if _, err := unix.Write(fds[0], []byte("hi")); err != nil {
		t.Fatal(err)
	}
	if buffer, n, err := receive(read); err != nil || string(buffer[:n]) != "hi" {
		t.Errorf("with data: %d octets, %v", n, err)
	}
	unix.Close(fds[0])
	if _, n, err := receive(read); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %d octets, %v", n, err)
	}
}
