package files

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"brig/nodeagent/files/guest"
	"brig/nodeagent/files/wire"
	"brig/nodeagent/record"
)

// box stands for a sandbox: it runs what a program does on its streams.
type box struct {
	t        *testing.T
	program  func(argument string, in io.ReadCloser, out io.Writer)
	released int
}

// run is a program's control.
type run struct {
	box   *box
	in    *os.File
	ended chan struct{}
	kill  func()
}

func (b *box) start(_ context.Context, _ record.Record, argument string, stdin bool) (*Program, error) {
	pipe := func() (*os.File, *os.File) {
		r, w, err := os.Pipe()
		if err != nil {
			b.t.Fatal(err)
		}
		return r, w
	}
	inR, inW := pipe()
	outR, outW := pipe()
	errR, errW := pipe()
	r := &run{box: b, in: inW, ended: make(chan struct{}), kill: func() { _ = inR.Close(); _ = outW.Close(); _ = errW.Close() }}
	go func() {
		defer close(r.ended)
		b.program(argument, inR, outW)
		r.kill()
	}()
	p := &Program{Stdin: inW, Stdout: outR, Stderr: errR, Control: r}
	if !stdin {
		_ = inW.Close()
	}
	return p, nil
}

func (r *run) CloseStdin(context.Context) error { return r.in.Close() }

func (r *run) Wait(ctx context.Context) (int, time.Time, error) {
	select {
	case <-r.ended:
		return 0, time.Now(), nil
	case <-ctx.Done():
		return 0, time.Time{}, context.Cause(ctx)
	}
}

func (r *run) Release(context.Context) error {
	r.box.released++
	r.kill()
	<-r.ended
	return nil
}

// honest are Files whose sandbox is this machine.
func honest(t *testing.T) (*Files, *box) {
	b := &box{t: t, program: func(argument string, in io.ReadCloser, out io.Writer) { guest.Serve(argument, in, out) }}
	return New(b.start, slog.New(slog.DiscardHandler)), b
}

// answering are Files whose sandbox says what it likes.
func answering(t *testing.T, say func(in io.Reader, out *speaker)) *Files {
	b := &box{t: t, program: func(_ string, in io.ReadCloser, out io.Writer) { say(in, &speaker{wire.NewWriter(out), out}) }}
	t.Cleanup(func() {
		if b.released == 0 {
			t.Error("the exec was not released")
		}
	})
	return New(b.start, slog.New(slog.DiscardHandler))
}

// speaker writes frames, and what is none.
type speaker struct {
	*wire.Writer
	out io.Writer
}

func (s *speaker) raw(p []byte) { _, _ = s.out.Write(p) }

type collected struct {
	info Info
	data bytes.Buffer
}

func (c *collected) Info(i Info) error { c.info = i; return nil }

func (c *collected) Data(p []byte) error { _, err := c.data.Write(p); return err }

// parts makes a source of what Write sends.
func parts(data ...string) func() ([]byte, error) {
	return func() ([]byte, error) {
		if len(data) == 0 {
			return nil, io.EOF
		}
		part := data[0]
		data = data[1:]
		return []byte(part), nil
	}
}

func TestWriteAndRead(t *testing.T) {
	f, b := honest(t)
	path := filepath.Join(t.TempDir(), "f")
	large := strings.Repeat("0123456789", 100_000)
	size, err := f.Write(t.Context(), record.Record{}, WriteRequest{Path: path, Mode: 0o640}, parts("", large, "end"))
	if err != nil || size != uint64(len(large)+3) {
		t.Fatalf("%d, %v", size, err)
	}
	for _, tc := range []struct {
		r    ReadRequest
		want string
	}{
		{ReadRequest{Path: path}, large + "end"},
		{ReadRequest{Path: path, Offset: uint64(len(large))}, "end"},
		{ReadRequest{Path: path, Offset: 5, Length: 7}, "5678901"},
		{ReadRequest{Path: path, Offset: 1 << 63}, ""},
		{ReadRequest{Path: path, Offset: uint64(len(large)) + 3, Length: 7}, ""},
		{ReadRequest{Path: path, Offset: 1 << 63, Length: 7}, ""},
	} {
		var got collected
		if err := f.Read(t.Context(), record.Record{}, tc.r, &got); err != nil || got.data.String() != tc.want {
			t.Errorf("%+v: %d bytes, %v", tc.r, got.data.Len(), err)
		}
		if i := got.info; i.Name != "f" || i.Mode != 0o640 || i.Type != wire.Regular || i.Size != size {
			t.Errorf("%+v", i)
		}
	}
	if b.released != 7 {
		t.Errorf("%d execs were released, want 7", b.released)
	}
}

// TestBrokenOff: what the client does not finish is not there.
func TestBrokenOff(t *testing.T) {
	f, b := honest(t)
	dir := t.TempDir()
	gone := errors.New("the client has gone")
	sent := false
	_, err := f.Write(t.Context(), record.Record{}, WriteRequest{Path: filepath.Join(dir, "f")}, func() ([]byte, error) {
		if sent {
			return nil, gone
		}
		sent = true
		return make([]byte, 1<<20), nil
	})
	if !errors.Is(err, gone) {
		t.Errorf("%v, want %v", err, gone)
	}
	if names, err := os.ReadDir(dir); err != nil || len(names) > 0 || b.released != 1 {
		t.Errorf("left: %v, %v; %d released", names, err, b.released)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	_, err = f.Write(ctx, record.Record{}, WriteRequest{Path: filepath.Join(dir, "f")}, func() ([]byte, error) {
		cancel(gone)
		return nil, context.Cause(ctx)
	})
	if !errors.Is(err, gone) {
		t.Errorf("%v, want %v", err, gone)
	}
	if names, err := os.ReadDir(dir); err != nil || len(names) > 0 {
		t.Errorf("left: %v, %v", names, err)
	}
}

func TestBadRequests(t *testing.T) {
	f, b := honest(t)
	for name, err := range map[string]error{
		"no path":        f.Remove(t.Context(), record.Record{}, "", false),
		"NUL":            f.Remove(t.Context(), record.Record{}, "/a\x00b", false),
		"no UTF-8":       f.Remove(t.Context(), record.Record{}, "/\xff", false),
		"long":           f.Remove(t.Context(), record.Record{}, strings.Repeat("/a", 2048), false),
		"mode":           f.MakeDirectory(t.Context(), record.Record{}, "/x", 0o10000, false),
		"archive offset": f.Read(t.Context(), record.Record{}, ReadRequest{Path: "/x", Archive: true, Offset: 1}, &collected{}),
	} {
		if !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if b.released != 0 {
		t.Error("something was run for a bad request")
	}
}

// TestLongestPath: whatever is in it, it fits into an exec.
func TestLongestPath(t *testing.T) {
	f, _ := honest(t)
	_, err := f.Stat(t.Context(), record.Record{}, "/"+strings.Repeat("\x01", wire.MaxPath-1))
	if err == nil || errdefs.IsInternal(err) || !errdefs.IsInvalidArgument(err) {
		t.Errorf("%v, want what the kernel says of such a name", err)
	}
}

// TestHostileSandbox: no answer does more harm than an error of the call.
func TestHostileSandbox(t *testing.T) {
	info := func(i wire.Info) func(io.Reader, *speaker) {
		return func(_ io.Reader, out *speaker) {
			_ = out.Value(wire.KindInfo, i)
			_ = out.Value(wire.KindEnd, wire.End{})
		}
	}
	good := wire.Info{Name: "x", Type: wire.Regular}
	raw := func(kind wire.Kind, payload string) func(io.Reader, *speaker) {
		return func(_ io.Reader, out *speaker) { _ = out.Frame(kind, []byte(payload)) }
	}
	stat := func(f *Files) error { _, err := f.Stat(t.Context(), record.Record{}, "/x"); return err }
	list := func(f *Files) error { _, _, err := f.List(t.Context(), record.Record{}, "/x", nil); return err }
	remove := func(f *Files) error { return f.Remove(t.Context(), record.Record{}, "/x", true) }
	read := func(f *Files) error {
		return f.Read(t.Context(), record.Record{}, ReadRequest{Path: "/x", Length: 10}, &collected{})
	}
	write := func(f *Files) error {
		_, err := f.Write(t.Context(), record.Record{}, WriteRequest{Path: "/x"}, parts(strings.Repeat("x", 1<<20)))
		return err
	}
	for name, tc := range map[string]struct {
		say  func(io.Reader, *speaker)
		call func(*Files) error
		want string
	}{
		"silence, then the end": {func(io.Reader, *speaker) {}, stat, "ended before"},
		"no info":               {raw(wire.KindEnd, `{}`), stat, "nothing about the file"},
		"no info, read":         {raw(wire.KindEnd, `{}`), read, "nothing about the file"},
		"data before info":      {raw(wire.KindData, `x`), read, "out of turn"},
		"an unknown frame":      {raw('?', `x`), stat, "out of turn"},
		"no JSON":               {raw(wire.KindEnd, `x`), remove, "cannot be read"},
		"unknown fields":        {raw(wire.KindEnd, `{"x":1}`), remove, "cannot be read"},
		"an error, no JSON":     {raw(wire.KindFailure, `x`), remove, "cannot be read"},
		"an error of brigd's":   {raw(wire.KindFailure, `{"class":"internal","text":"x"}`), remove, "of the class"},
		"a terminal's words":    {raw(wire.KindFailure, `{"class":"not_found","text":"a\u001b[2J\nb\u0000"}`), remove, `in the sandbox: a\x1b[2J\x0ab\x00`},
		"a mode":                {info(wire.Info{Name: "x", Type: wire.Regular, Mode: 1 << 20}), stat, "mode"},
		"a time":                {info(wire.Info{Name: "x", Type: wire.Regular, MTime: 1 << 62}), stat, "time"},
		"a type":                {info(wire.Info{Name: "x", Type: "evil"}), stat, "type"},
		"a long name":           {info(wire.Info{Name: strings.Repeat("x", 1<<17), Type: wire.Regular}), stat, "name"},
		"too much data": {func(_ io.Reader, out *speaker) {
			_ = out.Value(wire.KindInfo, good)
			_ = out.Frame(wire.KindData, make([]byte, 11))
		}, read, "more than was asked for"},
		"half a frame": {func(_ io.Reader, out *speaker) {
			_ = out.Value(wire.KindInfo, good)
			out.raw([]byte{'d', 0, 0, 1, 0, 'x'})
		}, read, "ended before"},
		"an endless directory": {func(_ io.Reader, out *speaker) {
			for out.Value(wire.KindInfo, good) == nil {
			}
		}, list, "without end"},
		"a giant frame":             {func(_ io.Reader, out *speaker) { out.raw([]byte{'d', 0xff, 0xff, 0xff, 0xff}) }, read, "4294967295 bytes"},
		"success before the end":    {raw(wire.KindEnd, `{"size":1048576}`), write, "before everything was sent"},
		"success of something else": {func(in io.Reader, out *speaker) { drainFrames(in); _ = out.Value(wire.KindEnd, wire.End{Size: 7}) }, write, "another number"},
		"failure at once":           {raw(wire.KindFailure, `{"class":"resource_exhausted","text":"full"}`), write, "in the sandbox: full"},
	} {
		t.Run(name, func(t *testing.T) {
			err := tc.call(answering(t, tc.say))
			if err == nil || !strings.Contains(err.Error(), tc.want) || errdefs.IsInternal(err) {
				t.Errorf("%v; want an error with %q", err, tc.want)
			}
		})
	}
}

func drainFrames(in io.Reader) {
	frames := wire.NewReader(in)
	for {
		if kind, _, err := frames.Next(); err != nil || kind == wire.KindEnd {
			return
		}
	}
}

// TestListIsInOrder and bounded by what one answer may hold.
func TestListIsInOrder(t *testing.T) {
	f, _ := honest(t)
	dir := t.TempDir()
	var want []string
	for i := range 100 {
		name := fmt.Sprintf("%03d", i)
		want = append(want, name)
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	list, truncated, err := f.List(t.Context(), record.Record{}, dir, nil)
	if err != nil || truncated {
		t.Fatal(truncated, err)
	}
	full, left := errdefs.ErrResourceExhausted.WithMessage("there is no room"), 50*infoBytes
	if _, _, err := f.List(t.Context(), record.Record{}, dir, func(n int) error {
		if left -= n; left < 0 {
			return full
		}
		return nil
	}); !errors.Is(err, full) {
		t.Errorf("without room for it: %v; want %v", err, full)
	}
	var got []string
	for _, i := range list {
		got = append(got, i.Name)
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("%v", got)
	}
}
