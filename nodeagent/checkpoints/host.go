package checkpoints

import (
	"context"
	"fmt"
	"io/fs"
	"os/exec"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// askTime bounds a question to runsc.
const askTime = 10 * time.Second

// known is the last answer, and of which file; asking holds a token while it is used.
var (
	asking = make(chan struct{}, 1)
	known  struct {
		of   binary
		host Host
	}
)

// binary of one build: a file that was not replaced.
type binary struct {
	path          string
	device, inode uint64
	size          int64
	changed       unix.Timespec
}

// ThisHost asks the runsc at path, which is a short program's start twice. It is asked
// again when the file has changed, and never twice at once: whoever calls may be many.
func ThisHost(ctx context.Context, path string) (Host, error) {
	select {
	case asking <- struct{}{}:
		defer func() { <-asking }()
	case <-ctx.Done():
		return Host{}, context.Cause(ctx)
	}
	var s unix.Stat_t
	if err := unix.Stat(path, &s); err != nil {
		return Host{}, fmt.Errorf("look for runsc: %w", &fs.PathError{Op: "stat", Path: path, Err: err})
	}
	// Before it is asked: what changes meanwhile is noticed the next time.
	of := binary{path, s.Dev, s.Ino, s.Size, s.Ctim}
	if known.of != of {
		host, err := thisHost(ctx, path)
		if err != nil {
			return Host{}, err
		}
		known.of, known.host = of, host
	}
	return Host{Runsc: known.host.Runsc, CPU: slices.Clone(known.host.CPU)}, nil
}

func thisHost(ctx context.Context, path string) (Host, error) {
	version, err := ask(ctx, path, "--version")
	if err != nil {
		return Host{}, err
	}
	first, _, _ := strings.Cut(version, "\n")
	build, ok := strings.CutPrefix(first, "runsc version ")
	if !ok || build == "" {
		return Host{}, fmt.Errorf("ask runsc for its version: it says %.100q", first)
	}
	features, err := ask(ctx, path, "cpu-features")
	if err != nil {
		return Host{}, err
	}
	cpu := strings.FieldsFunc(features, func(r rune) bool { return r == ',' || r == '\n' || r == ' ' })
	if len(cpu) == 0 {
		return Host{}, fmt.Errorf("ask runsc for the CPU's features: it says nothing")
	}
	slices.Sort(cpu)
	return Host{Runsc: build, CPU: slices.Compact(cpu)}, nil
}

func ask(ctx context.Context, path, question string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, question).Output()
	if err != nil {
		return "", fmt.Errorf("ask %s %s: %w", path, question, err)
	}
	return string(out), nil
}
