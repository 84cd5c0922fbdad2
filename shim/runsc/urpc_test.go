package runsc

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/unet"
	"gvisor.dev/gvisor/pkg/urpc"
)

// Echo is served by gVisor's own urpc.
type Echo struct{ block chan struct{} }

// EchoArgs of the methods below.
type EchoArgs struct {
	Text string
	urpc.FilePayload
}

// Upper answers in capitals, and writes them to the file passed.
func (*Echo) Upper(args *EchoArgs, out *string) error {
	*out = strings.ToUpper(args.Text)
	for _, f := range args.Files {
		io.WriteString(f, *out)
	}
	return nil
}

// Fail fails.
func (*Echo) Fail(*EchoArgs, *struct{}) error { return errors.New("it does not work") }

// Curse fails with more than anybody wants to read, or should.
func (*Echo) Curse(*EchoArgs, *struct{}) error {
	return errors.New("a\x1b[2J\nb\xff" + strings.Repeat("c", answerBytes/2))
}

// Flood answers more than anybody wants.
func (*Echo) Flood(_ *EchoArgs, out *string) error {
	*out = strings.Repeat("x", answerBytes)
	return nil
}

// Block does not answer.
func (e *Echo) Block(*EchoArgs, *struct{}) error { <-e.block; return nil }

// server serves Echo where the control socket of sandbox a would be.
func server(t *testing.T) *Control {
	t.Helper()
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 20)) // longer than a socket's path may be
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	socket, err := unet.BindAndListen("runsc-a.sock", false)
	if err != nil {
		t.Fatal(err)
	}
	echo := &Echo{block: make(chan struct{})}
	s := urpc.NewServer()
	s.Register(echo)
	go func() {
		for {
			conn, err := socket.Accept()
			if err != nil {
				return
			}
			s.StartHandling(conn)
		}
	}()
	t.Cleanup(func() { close(echo.block); socket.Close() })
	return NewControl(dir, "a")
}

type echoArgs struct{ Text string }

func TestSpeaksUrpc(t *testing.T) {
	c := server(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("abc", 300<<10) // more than one write
	go func() {
		var got string
		if err := c.call(t.Context(), "Echo.Upper", &echoArgs{long}, &got, w); err != nil || got != strings.ToUpper(long) {
			t.Errorf("answer of %d bytes, %v", len(got), err)
		}
		w.Close()
	}()
	if b, err := io.ReadAll(r); err != nil || string(b) != strings.ToUpper(long) {
		t.Errorf("the file passed got %d bytes, %v", len(b), err)
	}
}

func TestErrorsOfTheOtherSideAreRemote(t *testing.T) {
	c := server(t)
	for method, want := range map[string]string{"Echo.Fail": "it does not work", "Echo.None": "unknown method"} {
		var remote *RemoteError
		if err := c.call(t.Context(), method, &echoArgs{}, nil); !errors.As(err, &remote) || remote.Message != want {
			t.Errorf("%s: %v", method, err)
		}
	}
	var curse *RemoteError
	if err := c.call(t.Context(), "Echo.Curse", &echoArgs{}, nil); !errors.As(err, &curse) ||
		!strings.HasPrefix(curse.Message, "a [2J b\ufffdccc") || len(curse.Message) > messageBytes {
		t.Errorf("a message of %d bytes: %.80q", len(curse.Message), curse.Message)
	}
	err := NewControl(t.TempDir(), "a").call(t.Context(), "Echo.Upper", nil, nil)
	var remote *RemoteError
	if !errors.Is(err, os.ErrNotExist) || errors.As(err, &remote) {
		t.Errorf("no socket: %v", err)
	}
}

func TestAnswersAreBounded(t *testing.T) {
	c := server(t)
	var got string
	if err := c.call(t.Context(), "Echo.Flood", &echoArgs{}, &got); err == nil || !strings.Contains(err.Error(), "answer of more than") {
		t.Errorf("a flood: %d bytes, %v", len(got), err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := c.call(ctx, "Echo.Block", &echoArgs{}, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("no answer: %v", err)
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add([]byte(`{"success":true,"err":"","result":0}`))
	f.Add([]byte(`{"success":false,"err":"x","result":null}`))
	f.Add([]byte(`[`))
	f.Fuzz(func(t *testing.T, answer []byte) {
		c, peer := connected(t)
		go func() {
			peer.Write(answer)
			peer.CloseWrite()
			io.Copy(io.Discard, peer)
		}()
		if got, err := exchange(c, request{Method: "m"}, nil); err == nil && got == nil {
			t.Error("neither an answer nor an error")
		}
	})
}

func connected(t *testing.T) (a, b *net.UnixConn) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if a, err = net.DialUnix("unix", nil, l.Addr().(*net.UnixAddr)); err == nil {
		b, err = l.AcceptUnix()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}
