package socket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"brig/internal/require"
)

// dials names the variable that makes of this program one that connects to a socket, and
// ends when its stdin does.
const dials = "BRIG_TEST_DIALS"

func TestMain(m *testing.M) {
	path := os.Getenv(dials)
	if path == "" {
		os.Exit(m.Run())
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	defer conn.Close()
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// open lets everybody in.
type open struct{}

func (open) Enter(uint32) (func(), error) { return func() {}, nil }

// admitted listens with a mode for everybody, as no brigd does.
func admitted(t *testing.T, gate Gate) (path string, l net.Listener) {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "brig-socket-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path = filepath.Join(dir, "s")
	u, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Chmod(dir, 0o755), os.Chmod(path, 0o666)); err != nil {
		t.Fatal(err)
	}
	l = Admit(u, NewDoor(gate, slog.New(slog.DiscardHandler)))
	t.Cleanup(func() { l.Close() })
	return path, l
}

func TestPeer(t *testing.T) {
	path, l := admitted(t, open{})
	client, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c := From(WithPeer(t.Context(), conn))
	if want := (Caller{UID: uint32(unix.Geteuid()), PID: int32(os.Getpid())}); c != want || !c.Local() {
		t.Errorf("caller %+v; want %+v", c, want)
	}
	if _, err := Peer(context.Background()); !errdefs.IsPermissionDenied(err) {
		t.Errorf("nobody known: %v; want permission denied", err)
	}
}

// TestUserNamespaces: a uid in a user namespace is what it is outside, and the uid that
// stands for all who cannot be told is nobody.
func TestUserNamespaces(t *testing.T) {
	require.Root(t)
	const alice = 54321
	for _, tc := range []struct {
		name    string
		attr    syscall.SysProcAttr
		uid     uint32
		refused bool
	}{
		{"another uid", syscall.SysProcAttr{Credential: &syscall.Credential{Uid: alice, Gid: alice}}, alice, false},
		{"root in a namespace of another uid's", syscall.SysProcAttr{
			Cloneflags: syscall.CLONE_NEWUSER, Credential: &syscall.Credential{Uid: 0, Gid: 0},
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: alice, Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: alice, Size: 1}},
		}, alice, false},
		{"the overflow uid", syscall.SysProcAttr{Credential: &syscall.Credential{Uid: overflow(), Gid: overflow()}}, overflow(), true},
		{"root in a namespace of the overflow uid's", syscall.SysProcAttr{
			Cloneflags: syscall.CLONE_NEWUSER, Credential: &syscall.Credential{Uid: 0, Gid: 0},
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: int(overflow()), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: int(overflow()), Size: 1}},
		}, overflow(), true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path, l := admitted(t, open{})
			c := callerOf(t, path, l, &tc.attr)
			if c.UID != tc.uid || (c.Refused != nil) != tc.refused || tc.refused && !errdefs.IsPermissionDenied(c.Refused) {
				t.Errorf("caller %+v; want uid %d, refused: %v", c, tc.uid, tc.refused)
			}
		})
	}
}

// callerOf has a child connect, which ends with its stdin.
func callerOf(t *testing.T, path string, l net.Listener, attr *syscall.SysProcAttr) Caller {
	t.Helper()
	var stderr bytes.Buffer
	child := exec.CommandContext(t.Context(), "/proc/self/exe") // its folder is not for others
	child.Env = []string{dials + "=" + path}
	child.SysProcAttr, child.Stderr = attr, &stderr
	stdin, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	failed := time.AfterFunc(10*time.Second, func() { l.Close() })
	conn, err := l.Accept()
	failed.Stop()
	stdin.Close()
	if err != nil {
		_ = child.Process.Kill()
		_ = child.Wait()
		t.Fatalf("%v: %s", err, &stderr)
	}
	c := From(WithPeer(t.Context(), conn))
	conn.Close()
	_ = child.Wait() // its connection broke
	return c
}

// full lets nobody in.
type full struct{}

func (full) Enter(uint32) (func(), error) {
	return nil, errdefs.ErrResourceExhausted.WithMessage("full")
}

// TestWhoIsNotLetIn: who does not get in is told so while few others are, and then is not.
func TestWhoIsNotLetIn(t *testing.T) {
	path, l := admitted(t, full{})
	accepted := make(chan net.Conn)
	go func() {
		defer close(accepted)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- conn
		}
	}()
	var kept []net.Conn
	for range refusals {
		client, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		conn := <-accepted
		if _, err := Peer(WithPeer(t.Context(), conn)); !errdefs.IsResourceExhausted(err) {
			t.Fatalf("%v; want that it is full", err)
		}
		kept = append(kept, conn)
	}
	one, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer one.Close()
	if n, err := one.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) && !strings.Contains(err.Error(), "reset") {
		t.Errorf("one too many reads %d, %v; want its end", n, err)
	}
	kept[0].Close()
	again, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	kept = append(kept, <-accepted)
	for _, conn := range kept {
		conn.Close()
	}
	l.Close()
	for range accepted {
	}
}
