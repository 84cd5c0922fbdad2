package stdio

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// The schemes of loggers. They differ in how a logger says that it is ready: by
// closing descriptor 5, or by writing a byte to it, which its death does not.
const (
	schemeBinary   = "binary"
	schemeBinaryV2 = "binary-v2"
)

const (
	readyTime = 30 * time.Second       // until a logger is ready
	moment    = 10 * time.Millisecond  // between a logger's last descriptor and its being seen dead
	termTime  = 2 * time.Second        // for a logger that is told to end
	pipeTime  = 100 * time.Millisecond // for who else holds a dead logger's stderr
)

// logger is a program that a caller names and this process runs, to take the output
// of another. It reads stdout from descriptor 3 and stderr from 4. Processes that it
// makes end with it.
type logger struct {
	uri    string
	cmd    *exec.Cmd
	stderr tail
	pipes  [2]*os.File   // of stdout and stderr, for the sinks; nil: not asked for
	gone   chan struct{} // it has ended and was waited for

	mu    sync.Mutex
	ended bool // its pid may be another's soon
}

func isLogger(uri string) bool {
	scheme, _, _ := strings.Cut(uri, "://")
	return scheme == schemeBinary || scheme == schemeBinaryV2
}

// openLogger starts the program that uri names for the streams wanted, and waits
// until it is ready. A stream not wanted ends at once.
func openLogger(ctx context.Context, uri string, c Config, wanted [2]bool) (_ *logger, err error) {
	u, err := parseURI(uri)
	if err != nil {
		return nil, err
	}
	l := &logger{uri: uri, cmd: loggerCommand(u, c), gone: make(chan struct{})}
	var theirs [3]*os.File // of the logger: stdout, stderr, ready
	defer func() { closeAll(theirs[:]...) }()
	for i := range l.pipes {
		if theirs[i], l.pipes[i], err = os.Pipe(); err != nil {
			closeAll(l.pipes[:]...)
			return nil, err
		}
		if !wanted[i] {
			l.pipes[i].Close()
			l.pipes[i] = nil
		}
	}
	ready, tell, err := os.Pipe()
	if err != nil {
		closeAll(l.pipes[:]...)
		return nil, err
	}
	defer ready.Close()
	theirs[2] = tell
	l.cmd.ExtraFiles = theirs[:]
	l.cmd.Stderr = &l.stderr
	if err := l.cmd.Start(); err != nil {
		closeAll(l.pipes[:]...)
		return nil, fmt.Errorf("start logger: %w", err)
	}
	go l.reap()
	closeAll(theirs[:]...)
	if err := l.awaitReady(ctx, ready, u.Scheme); err != nil {
		closeAll(l.pipes[:]...)
		l.kill()
		return nil, fmt.Errorf("logger %s: %w", u.Path, l.explain(err))
	}
	return l, nil
}

// loggerCommand has the environment and the arguments that containerd's loggers
// expect, and the order of the query, so that the same URI is the same command.
func loggerCommand(u *url.URL, c Config) *exec.Cmd {
	cmd := exec.Command(u.Path)
	for pair := range strings.SplitSeq(u.RawQuery, "&") {
		key, value, _ := strings.Cut(pair, "=")
		key, errKey := url.QueryUnescape(key)
		value, errValue := url.QueryUnescape(value)
		if pair != "" && errKey == nil && errValue == nil {
			cmd.Args = append(cmd.Args, key, value)
		}
	}
	cmd.Env = []string{"CONTAINER_ID=" + c.ID, "CONTAINER_NAMESPACE=" + c.Namespace}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = pipeTime
	return cmd
}

func (l *logger) awaitReady(ctx context.Context, ready *os.File, scheme string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyTime, fmt.Errorf("not ready within %v: %w", readyTime, errdefs.ErrUnavailable))
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = ready.SetReadDeadline(time.Now()) })()
	n, err := ready.Read(make([]byte, 1))
	switch {
	case n == 1:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case !errors.Is(err, io.EOF):
		return err
	case scheme == schemeBinaryV2:
		return fmt.Errorf("ended or gave up before it was ready: %w", errdefs.ErrUnavailable)
	}
	select {
	case <-l.gone:
		return fmt.Errorf("ended before it was ready: %w", errdefs.ErrUnavailable)
	case <-time.After(moment):
		return nil
	}
}

// explain adds the last that a logger said before its end.
func (l *logger) explain(err error) error {
	if said := l.stderr.line(); said != "" {
		return fmt.Errorf("%w: %q", err, said)
	}
	return err
}

// sink of one of the streams asked for, which closes the logger's end of it.
func (l *logger) sink(stream int) *sink {
	return &sink{w: &loggerPipe{File: l.pipes[stream], path: l.cmd.Path}}
}

// wait until the logger, whose streams have ended, has dealt with them.
func (l *logger) wait(ctx context.Context) {
	select {
	case <-l.gone:
	case <-ctx.Done():
	}
}

// stop ends a logger. It returns when there is none.
func (l *logger) stop() {
	closeAll(l.pipes[:]...)
	l.signal(unix.SIGTERM)
	select {
	case <-l.gone:
	case <-time.After(termTime):
		l.kill()
	}
}

func (l *logger) kill() {
	l.signal(unix.SIGKILL)
	<-l.gone
}

func (l *logger) signal(sig unix.Signal) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.ended {
		_ = unix.Kill(-l.cmd.Process.Pid, sig)
	}
}

// reap waits for the logger's end and ends what it leaves. Its group is its own only
// as long as it has not been waited for.
func (l *logger) reap() {
	for unix.Waitid(unix.P_PID, l.cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
	}
	l.signal(unix.SIGKILL)
	l.mu.Lock()
	l.ended = true
	l.mu.Unlock()
	_ = l.cmd.Wait() // its streams tell enough
	close(l.gone)
}

func closeAll(files ...*os.File) {
	for _, f := range files {
		if f != nil {
			f.Close()
		}
	}
}
