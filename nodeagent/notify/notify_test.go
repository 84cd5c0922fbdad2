package notify

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"
)

// systemd is a socket as systemd makes it.
func systemd(t *testing.T) *net.UnixConn {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	return l
}

func wantMessage(t *testing.T, l *net.UnixConn, want string) {
	t.Helper()
	buf := make([]byte, 100)
	if err := l.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if n, err := l.Read(buf); err != nil || string(buf[:n]) != want {
		t.Fatalf("%q, %v; want %s", buf[:n], err, want)
	}
}

func TestReady(t *testing.T) {
	l := systemd(t)
	if err := errors.Join(Ready(), Stopping()); err != nil {
		t.Fatal(err)
	}
	wantMessage(t, l, "READY=1")
	wantMessage(t, l, "STOPPING=1")
}

// TestWatchdog: what is alive says so again and again, what is not says nothing.
func TestWatchdog(t *testing.T) {
	l := systemd(t)
	t.Setenv("WATCHDOG_USEC", "30000")
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	var sick atomic.Bool
	looked := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- Watchdog(ctx, func(context.Context) error {
			if !sick.Load() {
				return nil
			}
			looked <- struct{}{}
			return errors.New("sick")
		}, slog.New(slog.DiscardHandler))
	}()
	for range 3 {
		wantMessage(t, l, "WATCHDOG=1")
	}
	sick.Store(true)
	<-looked // from here on nothing more is said
	if err := l.SetReadDeadline(time.Now()); err != nil {
		t.Fatal(err)
	}
	for buf := make([]byte, 100); ; { // what was said before
		if _, err := l.Read(buf); err != nil {
			break
		}
	}
	<-looked
	<-looked
	if err := l.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := l.Read(make([]byte, 100)); err == nil {
		t.Errorf("%d bytes from one that is not alive", n)
	}
	go func() {
		for range looked {
		}
	}()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestWithoutSystemd(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	t.Setenv("WATCHDOG_USEC", "")
	never := func(context.Context) error { t.Error("looked though nobody asked"); return nil }
	if err := errors.Join(Stopping(), Watchdog(t.Context(), never, slog.New(slog.DiscardHandler))); err != nil {
		t.Error(err)
	}
}
