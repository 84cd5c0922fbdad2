package shim

import (
	"os"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// TestLogWithoutReader: who starts a shim reads what it says. Otherwise it has gone, and
// nobody waits for it.
func TestLogWithoutReader(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := unix.Mkfifo(logPipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if f, err := openLog(); !errdefs.IsUnavailable(err) {
		t.Errorf("%v, %v; want an ErrUnavailable", f, err)
	}
	reader, err := os.OpenFile(logPipe, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	f, err := openLog()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	if err != nil || flags&unix.O_NONBLOCK != 0 {
		t.Errorf("flags %#o, %v: what is said is lost when the pipe is full", flags, err)
	}
}
