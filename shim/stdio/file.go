package stdio

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// openFileSink appends to a file, which it makes if it is missing, with its folder.
// It does not block: the path may be a FIFO without a reader, which is an error.
func openFileSink(path string) (*sink, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY|unix.O_NONBLOCK, 0o644)
	if err != nil {
		return nil, err
	}
	return &sink{w: f}, nil
}
