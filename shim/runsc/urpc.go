package runsc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// answerBytes bounds an answer. The largest honest one lists processes.
const answerBytes = 4 << 20

// dialTimeout bounds the wait for a place in the sentry's queue of connections.
const dialTimeout = 10 * time.Second

// Control is the sentry's control socket. Every call has a connection of its own,
// closed at once: an idle one would hold up the sentry's exit, and a wait must not
// block other calls. What a call has started is waited for on its connection (Line).
//
// The protocol is gVisor's urpc: JSON, files by SCM_RIGHTS with the first byte. It
// is spoken here rather than with gVisor's own client because that one reads an
// answer of any length for any time; a test runs this client against its server.
type Control struct {
	path string
}

// NewControl of the sandbox id under runsc's root.
func NewControl(root, id string) *Control {
	return &Control{path: filepath.Join(root, "runsc-"+id+".sock")}
}

// RemoteError is the sentry's answer that a call failed. Any other error means that
// the sentry could not be asked or did not answer.
type RemoteError struct {
	Method  string
	Message string
}

// Error is the sentry's message.
func (e *RemoteError) Error() string { return e.Method + ": " + e.Message }

type request struct {
	Method string `json:"method"`
	Arg    any    `json:"arg"`
}

type response struct {
	Success bool            `json:"success"`
	Err     string          `json:"err"`
	Result  json.RawMessage `json:"result"`
}

// call sends arg and files, and decodes the answer into result unless that is nil.
func (c *Control) call(ctx context.Context, method string, arg, result any, files ...*os.File) error {
	l, err := c.line(ctx)
	if err != nil {
		return fmt.Errorf("call %s: %w", method, err)
	}
	defer l.Close()
	return l.call(ctx, method, arg, result, files...)
}

// Line is a connection for calls that come one after the other. Between two of them no
// time is to pass.
type Line struct{ conn *net.UnixConn }

func (c *Control) line(ctx context.Context) (*Line, error) {
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, err
	}
	return &Line{conn}, nil
}

// Close ends it.
func (l *Line) Close() { _ = l.conn.Close() }

func (l *Line) call(ctx context.Context, method string, arg, result any, files ...*os.File) error {
	// A deadline in the past ends whatever blocks.
	stop := context.AfterFunc(ctx, func() { _ = l.conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	answer, err := exchange(l.conn, request{Method: method, Arg: arg}, files)
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return fmt.Errorf("call %s: %w", method, err)
	}
	if !answer.Success {
		return &RemoteError{Method: method, Message: printable(answer.Err)}
	}
	if result == nil {
		return nil
	}
	if err := json.Unmarshal(answer.Result, result); err != nil {
		return fmt.Errorf("call %s: answer: %w", method, err)
	}
	return nil
}

// dial goes through an open descriptor: with a long id the path does not fit the
// kernel's 108 bytes.
func (c *Control) dial(ctx context.Context) (*net.UnixConn, error) {
	fd, err := unix.Open(c.path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: c.path, Err: err}
	}
	defer unix.Close(fd)
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	var d net.Dialer
	for {
		conn, err := d.DialContext(ctx, "unix", fmt.Sprintf("/proc/self/fd/%d", fd))
		if err == nil {
			return conn.(*net.UnixConn), nil
		}
		// The sentry's queue of connections is short, and a full one is no wait
		// but an error: many execs at once fill it.
		if !errors.Is(err, unix.EAGAIN) || ctx.Err() != nil {
			return nil, fmt.Errorf("connect to %s: %w", c.path, err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func exchange(conn *net.UnixConn, req request, files []*os.File) (*response, error) {
	data, err := json.Marshal(req)
	if err != nil {
		return nil, err
	}
	if err := send(conn, data, files); err != nil {
		return nil, err
	}
	limited := &io.LimitedReader{R: conn, N: answerBytes}
	var answer response
	if err := json.NewDecoder(limited).Decode(&answer); err != nil {
		if limited.N <= 0 {
			return nil, fmt.Errorf("answer of more than %d bytes", answerBytes)
		}
		return nil, err
	}
	return &answer, nil
}

func send(conn *net.UnixConn, data []byte, files []*os.File) error {
	if len(files) == 0 {
		_, err := conn.Write(data)
		return err
	}
	fds := make([]int, len(files))
	for i, f := range files {
		if f == nil {
			return errors.New("a file to pass is missing")
		}
		fds[i] = int(f.Fd())
	}
	n, _, err := conn.WriteMsgUnix(data, unix.UnixRights(fds...), nil)
	if err != nil || n == len(data) {
		return err
	}
	_, err = conn.Write(data[n:])
	return err
}
