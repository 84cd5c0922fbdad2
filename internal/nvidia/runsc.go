package nvidia

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// askTime bounds the question to runsc.
const askTime = 10 * time.Second

// known is the last answer, and of which file; asking holds a token while it is used.
var (
	asking = make(chan struct{}, 1)
	known  struct {
		of       binary
		versions []Version
	}
)

// binary of one build: a file that was not replaced.
type binary struct {
	path          string
	device, inode uint64
	size          int64
	changed       unix.Timespec
}

// Supported are the versions of the driver that the runsc at path knows, in its order. It
// is asked once, and again when the file has changed; never twice at once.
func Supported(ctx context.Context, path string) ([]Version, error) {
	select {
	case asking <- struct{}{}:
		defer func() { <-asking }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	var s unix.Stat_t
	if err := unix.Stat(path, &s); err != nil {
		return nil, fmt.Errorf("look for runsc: %w", &os.PathError{Op: "stat", Path: path, Err: err})
	}
	// Before it is asked: what changes meanwhile is noticed the next time.
	of := binary{path, s.Dev, s.Ino, s.Size, s.Ctim}
	if known.of != of {
		versions, err := supportedBy(ctx, path)
		if err != nil {
			return nil, err
		}
		known.of, known.versions = of, versions
	}
	return slices.Clone(known.versions), nil
}

func supportedBy(ctx context.Context, path string) ([]Version, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "nvproxy", "list-supported-drivers").Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) && len(exit.Stderr) > 0 {
			line, _, _ := strings.Cut(string(exit.Stderr), "\n")
			err = fmt.Errorf("%w: %.200s", err, line)
		}
		return nil, fmt.Errorf("ask runsc which drivers it knows: %w", err)
	}
	var versions []Version
	for line := range strings.Lines(string(out)) {
		v, err := ParseVersion(strings.TrimSuffix(line, "\n"))
		if err != nil {
			return nil, fmt.Errorf("ask runsc which drivers it knows: %w", err)
		}
		versions = append(versions, v)
	}
	if len(versions) == 0 {
		return nil, fmt.Errorf("ask runsc which drivers it knows: it names none")
	}
	return versions, nil
}
