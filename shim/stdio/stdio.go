// Package stdio connects a program's stdin, stdout and stderr with where its task
// says they come from and go to.
//
// A sandbox never gets a FIFO or a file of the host: it gets the ends of pipes, or a
// pty, and the shim copies. So a reader that goes away cannot hurt the program, and
// what a program wrote before it ended can be waited for (Drain) before its end is
// told. A client that comes back finds its FIFO as it left it, so a full one makes the
// program wait; a logger has no such right (loggerPipe).
//
// A logger is a program of the host that whoever may create containers may name, as
// with every runtime of containerd: the name is as good as root.
//
// The life of an IO: Open, hand Files to the process, Started (or Close if that
// fails), Feed when the process may run, Drain when it has ended, then Close.
// CloseStdin and Resize may come at any time, from any goroutine.
package stdio

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Config names the streams of a process. An empty name is /dev/null; others are the
// path of a FIFO, or for output one of
//
//	file:///path                              appended to
//	binary:///path?key=value                  a logger: this program with the arguments key and value
//	binary-v2:///path?key=value               likewise, with a stricter sign of being ready
//	journal:///path?max=BYTES                 brigd's; the oldest bytes are dropped
//	journal:///path?max=BYTES&overflow=block  brigd's; a full one makes the program wait
//	journal:///path?max=BYTES&overflow=block&late=true
//	                                          likewise; the file comes with the first byte
//
// and for stdin
//
//	journal:///path                           brigd's, which is there already
//
// If both outputs name the same logger, one process takes both.
type Config struct {
	Stdin, Stdout, Stderr string
	Terminal              bool   // one pty is all three; Stderr is not used
	ID, Namespace         string // what a logger is told
}

// IO is the streams of one process.
type IO struct {
	files [3]*os.File // the process's ends
	in    input       // nil: /dev/null
	out   []*output
	logs  []*logger
	tty   *os.File // the pty's master; nil: pipes

	starting, closing sync.Once
}

// Open makes the ends of all streams. It waits for the other side to open its output
// FIFOs, so that nothing written is lost, as long as ctx allows.
func Open(ctx context.Context, c Config) (*IO, error) {
	s := new(IO)
	open := s.openPipes
	if c.Terminal {
		open = s.openTerminal
	}
	if err := open(ctx, c); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *IO) openPipes(ctx context.Context, c Config) (err error) {
	if s.files[0], s.in, err = openInput(c.Stdin); err != nil {
		return fmt.Errorf("stdin: %w", err)
	}
	var shared *output
	for i, uri := range []string{c.Stdout, c.Stderr} {
		if i == 1 && uri == c.Stdout && shared != nil && !isLogger(uri) {
			s.files[2], err = dup(s.files[1]) // one stream under two names
		} else {
			s.files[i+1], shared, err = openOutput(uri, func() (*sink, error) { return s.openSink(ctx, c, i) })
			if shared != nil {
				s.out = append(s.out, shared)
			}
		}
		if err != nil {
			return fmt.Errorf("%s: %w", []string{"stdout", "stderr"}[i], err)
		}
	}
	return nil
}

func (s *IO) openTerminal(ctx context.Context, c Config) error {
	master, replica, err := openPTY()
	if err != nil {
		return err
	}
	s.tty, s.files[0] = master, replica
	for i := 1; i < 3; i++ {
		if s.files[i], err = dup(replica); err != nil {
			return err
		}
	}
	return s.openMaster(ctx, c)
}

// openMaster connects the terminal's master, which is made.
func (s *IO) openMaster(ctx context.Context, c Config) (err error) {
	if c.Stdin != "" {
		if s.in, err = connectInput(c.Stdin, stdin{to: s.tty, terminal: true}); err != nil {
			return fmt.Errorf("stdin: %w", err)
		}
	}
	c.Stderr = ""
	to, err := s.openSink(ctx, c, 0)
	if err != nil {
		return fmt.Errorf("stdout: %w", err)
	}
	s.out = []*output{newOutput(s.tty, to)}
	return nil
}

// openSink of stream 0, stdout, or 1, stderr.
func (s *IO) openSink(ctx context.Context, c Config, stream int) (*sink, error) {
	outputs := [2]string{c.Stdout, c.Stderr}
	uri := outputs[stream]
	if !isLogger(uri) {
		return openSink(ctx, uri)
	}
	for _, l := range s.logs {
		if l.uri == uri {
			return l.sink(stream), nil
		}
	}
	l, err := openLogger(ctx, uri, c, [2]bool{outputs[0] == uri, outputs[1] == uri})
	if err != nil {
		return nil, err
	}
	s.logs = append(s.logs, l)
	return l.sink(stream), nil
}

// Files are what the process gets as descriptors 0, 1 and 2.
func (s *IO) Files() [3]*os.File { return s.files }

// Started closes the process's ends, which the process has by now, and begins to
// copy its output, the first time it is called.
func (s *IO) Started() {
	s.starting.Do(func() {
		s.closeFiles()
		for _, o := range s.out {
			go o.copy()
		}
	})
}

// Feed begins to copy input. It comes late because a client takes its FIFO's being
// opened for the process's being there: ctr, for one, forgets the end of an input
// that it meets before its create has been answered.
//
// interrupt is told of the signals that a terminal's keys mean. The kernel would send
// them to the session on the replica, but there is none on the host.
func (s *IO) Feed(interrupt func(unix.Signal)) error {
	if s.in == nil {
		return nil
	}
	if err := s.in.start(interrupt); err != nil {
		return fmt.Errorf("stdin: %w", err)
	}
	return nil
}

// CloseStdin lets the process see the end of its input: once the other side has closed
// its end of a FIFO too, or after what is in a journal by now. A journal's own end needs
// no such call.
func (s *IO) CloseStdin() {
	if s.in != nil {
		s.in.release()
	}
}

// ErrNoTerminal is what Resize of pipes is.
var ErrNoTerminal = errors.New("the process has no terminal")

// Resize sets the size of the terminal.
func (s *IO) Resize(width, height uint16) error {
	if s.tty == nil {
		return ErrNoTerminal
	}
	conn, err := s.tty.SyscallConn() // Fd would make the master block, and Close hang
	if err != nil {
		return err
	}
	var errSet error
	err = conn.Control(func(fd uintptr) {
		errSet = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Col: width, Row: height})
	})
	if err = errors.Join(err, errSet); err != nil {
		return fmt.Errorf("resize terminal: %w", err)
	}
	return nil
}

// Drain waits, after the process has ended, until all it wrote is delivered, and
// then ends the streams for their readers. It does not wait for other processes that
// inherited them: a stream that is empty and stays so for a moment is over, and what
// such a process writes later is read and dropped. Loggers have ended by then. A
// reader that does not read, or a logger that does not end, makes Drain return when
// ctx ends; copying goes on until Close.
func (s *IO) Drain(ctx context.Context) {
	for _, o := range s.out {
		o.to.readerMayGo()
	}
	const moment, look = 100 * time.Millisecond, 10 * time.Millisecond
	quietSince := time.Now()
	for {
		done, quiet := true, true
		for _, o := range s.out {
			done = done && o.ended()
			quiet = quiet && (o.ended() || o.quiet())
		}
		if !quiet {
			quietSince = time.Now()
		}
		if done || time.Since(quietSince) >= moment {
			for _, o := range s.out {
				o.to.end()
			}
			for _, l := range s.logs {
				l.wait(ctx)
			}
			return
		}
		select {
		case <-s.anyEnd():
		case <-time.After(look):
		case <-ctx.Done():
			return
		}
	}
}

// anyEnd is the end of the first stream that has not ended.
func (s *IO) anyEnd() <-chan struct{} {
	for _, o := range s.out {
		if !o.ended() {
			return o.done
		}
	}
	return nil
}

// Detach ends all streams but goes on reading what other processes of the sandbox
// write, which a closed pipe would kill.
func (s *IO) Detach() {
	if s.in != nil {
		s.in.close()
	}
	for _, o := range s.out {
		o.to.end()
	}
	s.stopLogs()
}

// Close ends all streams.
func (s *IO) Close() {
	s.closing.Do(func() {
		s.closeFiles()
		if s.in != nil {
			s.in.close()
		}
		for _, o := range s.out {
			o.close()
		}
		s.stopLogs()
		if s.tty != nil {
			s.tty.Close()
		}
	})
}

func (s *IO) stopLogs() {
	for _, l := range s.logs {
		l.stop()
	}
}

func (s *IO) closeFiles() {
	for i, f := range s.files {
		if f != nil {
			f.Close()
			s.files[i] = nil
		}
	}
}

func dup(f *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("dup %s: %w", f.Name(), err)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}
