package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"strings"

	"connectrpc.com/connect"
)

// DialError is a socket on which nobody answers.
type DialError struct {
	Socket string
	Err    error
}

// Error says what to do about it.
func (e *DialError) Error() string {
	if errors.Is(e.Err, fs.ErrPermission) {
		return fmt.Sprintf("no permission to use %s; run as root, or join the group brig", e.Socket)
	}
	return fmt.Sprintf("brigd does not answer on %s; is it running? start it (systemctl start brigd), "+
		"or name its socket with --socket or BRIG_SOCKET", e.Socket)
}

// Unwrap returns the cause.
func (e *DialError) Unwrap() error { return e.Err }

// Describe returns err as one line for people: brigd's own words where it
// answered, without the protocol's code in front.
func Describe(err error) string {
	var dial *DialError
	if errors.As(err, &dial) {
		return dial.Error()
	}
	if errors.Is(err, context.Canceled) {
		return "interrupted"
	}
	text := err.Error()
	var remote *connect.Error
	if errors.As(err, &remote) {
		text = remote.Message()
		if Lost(err) {
			text = "brigd went away: " + text
		}
	}
	return strings.Join(strings.Fields(text), " ")
}

// Lost tells whether err means that brigd could not be reached or stopped in
// the middle of a call, as it does while it is restarted.
func Lost(err error) bool {
	var dial *DialError
	if errors.As(err, &dial) {
		return !errors.Is(dial.Err, fs.ErrPermission)
	}
	if connect.IsWireError(err) {
		return false // brigd said so itself
	}
	var broken *net.OpError // whatever connect makes of it
	return connect.CodeOf(err) == connect.CodeUnavailable || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &broken)
}
