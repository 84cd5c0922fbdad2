package e2e

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func itoa(i int) string { return strconv.Itoa(i) }

func openTTY(path string) (*os.File, error) { return os.OpenFile(path, os.O_RDWR|syscall.O_NOCTTY, 0) }

// lines collects what a terminal shows.
type lines struct {
	mu   sync.Mutex
	text strings.Builder // guarded by mu
}

func (l *lines) read(r io.Reader) {
	buf := make([]byte, 4096)
	for {
		n, err := r.Read(buf)
		l.mu.Lock()
		l.text.Write(buf[:n])
		l.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// expect waits until the terminal shows want.
func (l *lines) expect(t *testing.T, want string) {
	t.Helper()
	eventually(t, 20*time.Second, func() error {
		if text := l.String(); !strings.Contains(text, want) {
			return fmt.Errorf("the terminal does not show %q but\n%s", want, text)
		}
		return nil
	})
}

// waitFor waits for a started command and kills it after patience.
func waitFor(cmd *exec.Cmd, patience time.Duration) error {
	timer := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	return cmd.Wait()
}

// peerPID asks the kernel who listens on the other end.
func peerPID(t *testing.T, conn *net.UnixConn) int {
	t.Helper()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var cred *unix.Ucred
	var errOpt error
	err = raw.Control(func(fd uintptr) { cred, errOpt = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err != nil || errOpt != nil {
		t.Fatal(err, errOpt)
	}
	return int(cred.Pid)
}
