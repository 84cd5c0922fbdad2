package bundle

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// maxSpec bounds a config.json. containerd takes a spec in one message of its API, and
// such a message is 16 MiB at the most.
const maxSpec = 16 << 20

// readJSON decodes a file that consists of one JSON value and nothing else. It follows
// no link and opens nothing but a regular file: a FIFO would block, a device would
// never end.
func readJSON(path string, v any, strict bool) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ELOOP) {
		return fmt.Errorf("%s is a link, want a regular file: %w", path, errdefs.ErrInvalidArgument)
	} else if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is no regular file (%v): %w", path, info.Mode().Type(), errdefs.ErrInvalidArgument)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxSpec+1))
	if err != nil {
		return err
	}
	if len(data) > maxSpec {
		return fmt.Errorf("%s is longer than %d bytes: %w", path, maxSpec, errdefs.ErrInvalidArgument)
	}
	if err := decode(data, v, strict); err != nil {
		return fmt.Errorf("%s: %w: %w", path, err, errdefs.ErrInvalidArgument)
	}
	return nil
}

func decode(data []byte, v any, strict bool) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	if strict {
		dec.DisallowUnknownFields()
	}
	if err := dec.Decode(v); err != nil {
		return err
	}
	if _, err := dec.Token(); err != io.EOF {
		return fmt.Errorf("more than one JSON value")
	}
	return nil
}
