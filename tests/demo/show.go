package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"brig/tests/node"

	"github.com/containerd/console"
	"golang.org/x/sys/unix"
)

// show runs commands where everybody can see them and counts what holds.
type show struct {
	node           *node.Node
	passed, failed int
}

// outcome of one command.
type outcome struct {
	status      int
	out, errors string
}

func (s *show) title(text string) { fmt.Printf("\n# %s\n", text) }

// check counts and prints one result; err says what was not as it should be.
func (s *show) check(what string, err error) {
	if err != nil {
		s.failed++
		fmt.Printf("  FAILED %s: %v\n", what, err)
		return
	}
	s.passed++
	fmt.Printf("  ok: %s\n", what)
}

// expect checks a status and that the output, both streams, matches pattern.
func (s *show) expect(what string, got outcome, status int, pattern string) {
	var err error
	if got.status != status {
		err = fmt.Errorf("status %d, expected %d", got.status, status)
	}
	if !regexp.MustCompile(pattern).MatchString(got.out + got.errors) {
		err = errors.Join(err, fmt.Errorf("the output does not match %q", pattern))
	}
	s.check(what, err)
}

// brig runs the command line on the node.
func (s *show) brig(ctx context.Context, args ...string) outcome {
	return s.run(ctx, "brig", filepath.Join(s.node.Bin, "brig"), args...)
}

// run shows a command as title with its arguments, and what it says.
func (s *show) run(ctx context.Context, title, program string, args ...string) outcome {
	fmt.Printf("$ %s\n", quoted(title, args))
	cmd := s.command(ctx, program, args...)
	var out, errs bytes.Buffer
	cmd.Stdout = io.MultiWriter(&out, &indented{w: os.Stdout})
	cmd.Stderr = io.MultiWriter(&errs, &indented{w: os.Stdout})
	err := cmd.Run()
	return outcome{status(err), out.String(), errs.String()}
}

// typed runs a command on a terminal, types input and shows what appears.
func (s *show) typed(ctx context.Context, input, title, program string, args ...string) (outcome, error) {
	fmt.Printf("$ %s    (typing %q)\n", quoted(title, args), input)
	pty, path, err := console.NewPty()
	if err != nil {
		return outcome{}, err
	}
	defer pty.Close()
	tty, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return outcome{}, err
	}
	defer tty.Close()
	if err := pty.Resize(console.WinSize{Width: 80, Height: 24}); err != nil {
		return outcome{}, err
	}
	cmd := s.command(ctx, program, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	var seen bytes.Buffer
	done := make(chan struct{})
	go func() {
		defer close(done)
		// Ends with EIO once nobody holds the other end.
		_, _ = io.Copy(io.MultiWriter(&seen, &indented{w: os.Stdout}), pty)
	}()
	if err := cmd.Start(); err != nil {
		return outcome{}, err
	}
	_, err = io.WriteString(pty, input)
	got := outcome{status: status(cmd.Wait())}
	tty.Close()
	select {
	case <-done:
		got.out = seen.String()
	case <-time.After(5 * time.Second):
		err = errors.Join(err, errors.New("the terminal is still held"))
	}
	fmt.Println()
	return got, err
}

func (s *show) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = s.node.Env()
	return cmd
}

func status(err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	}
	return -1
}

var plain = regexp.MustCompile(`^[A-Za-z0-9_./:=@,+-]+$`)

// quoted is a command line that a shell would take.
func quoted(program string, args []string) string {
	out := []string{program}
	for _, a := range args {
		if !plain.MatchString(a) {
			a = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
		out = append(out, a)
	}
	return strings.Join(out, " ")
}

// escapes are what a program tells a terminal beside its text.
var escapes = regexp.MustCompile(`\x1b\[[0-9;?]*[A-Za-z]`)

// indented sets every line that is written off by two blanks. Not to be copied.
type indented struct {
	w      io.Writer
	inLine bool
}

func (i *indented) Write(p []byte) (int, error) {
	for line := range bytes.Lines(escapes.ReplaceAll(p, nil)) {
		if !i.inLine {
			line = append([]byte("  "), line...)
		}
		if _, err := i.w.Write(line); err != nil {
			return 0, err
		}
		i.inLine = !bytes.HasSuffix(line, []byte("\n"))
	}
	return len(p), nil
}
