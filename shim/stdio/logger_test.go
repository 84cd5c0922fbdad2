package stdio

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/runtime/v2/logging"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// TestMain makes the test's binary a logger where its arguments say so: a well-kept
// one by containerd's package, or one of those that a shim must survive.
func TestMain(m *testing.M) {
	if len(os.Args) > 3 && os.Args[1] == "logger" {
		behave(os.Args[2], os.Args[4])
		return
	}
	os.Exit(m.Run())
}

func behave(how, to string) {
	ready := os.NewFile(5, "ready")
	switch how {
	case "kept":
		logging.Run(func(_ context.Context, c *logging.Config, ready func() error) error { return record(c, to, ready) })
	case "old": // is ready by closing, and slow with its last words
		ready.Close()
		_ = record(&logging.Config{Stdout: os.NewFile(3, ""), Stderr: os.NewFile(4, "")}, to, func() error { return nil })
		time.Sleep(200 * time.Millisecond)
		say(to, "last words")
	case "dies":
		fmt.Fprintln(os.Stderr, "starting\nno such driver")
		os.Exit(3)
	case "hesitates":
		time.Sleep(time.Hour)
	case "quits": // after a line
		ready.Write([]byte{0})
		bufio.NewReader(os.NewFile(3, "")).ReadString('\n')
	case "deaf":
		signal.Ignore(unix.SIGTERM)
		ready.Write([]byte{0})
		time.Sleep(time.Hour)
	case "parent": // leaves a child that holds all it has
		cmd := exec.Command("/bin/sleep", "1000")
		cmd.Stderr, cmd.ExtraFiles = os.Stderr, []*os.File{os.NewFile(3, ""), os.NewFile(4, "")}
		cmd.Start()
		say(to, fmt.Sprint(cmd.Process.Pid))
		ready.Write([]byte{0})
	}
}

func record(c *logging.Config, to string, ready func() error) error {
	if c.ID != "" {
		say(to, "for "+c.Namespace+"/"+c.ID)
	}
	if err := ready(); err != nil {
		return err
	}
	var copies sync.WaitGroup
	for name, from := range map[string]io.Reader{"out": c.Stdout, "err": c.Stderr} {
		copies.Go(func() {
			for lines := bufio.NewScanner(from); lines.Scan(); {
				say(to, name+" "+lines.Text())
			}
		})
	}
	copies.Wait()
	return nil
}

func say(to, line string) {
	f, err := os.OpenFile(to, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = f.WriteString(line + "\n")
	}
	if err != nil {
		os.Exit(9)
	}
	f.Close()
}

// loggerURI is the one of a logger that behaves so and writes to the file given.
func loggerURI(t *testing.T, scheme, how string) (uri, log string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	log = filepath.Join(t.TempDir(), "log")
	return scheme + "://" + self + "?logger=" + how + "&to=" + log, log
}

func lines(t *testing.T, path string) map[string]int {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]int{}
	for line := range strings.Lines(string(b)) {
		out[strings.TrimSpace(line)]++
	}
	return out
}

func TestLoggerTakesBothStreams(t *testing.T) {
	for _, scheme := range []string{schemeBinary, schemeBinaryV2} {
		uri, log := loggerURI(t, scheme, "kept")
		s := open(t, Config{Stdout: uri, Stderr: uri, ID: "c1", Namespace: "ns"})
		if len(s.logs) != 1 {
			t.Fatalf("%d loggers, want one for both", len(s.logs))
		}
		if err := start(t, s, "i=0; while [ $i -lt 2000 ]; do echo line $i; echo bad $i >&2; i=$((i+1)); done").Wait(); err != nil {
			t.Fatal(err)
		}
		drain(t, s)
		got := lines(t, log)
		if len(got) != 4001 || got["for ns/c1"] != 1 || got["out line 1999"] != 1 || got["err bad 1999"] != 1 {
			t.Errorf("%s: %d lines, want 4001: nothing is lost when the end is told", scheme, len(got))
		}
	}
}

func TestLoggerOfOneStream(t *testing.T) {
	uri, log := loggerURI(t, schemeBinaryV2, "kept")
	s := open(t, Config{Stderr: uri})
	if err := start(t, s, "echo out; echo bad >&2").Wait(); err != nil {
		t.Fatal(err)
	}
	drain(t, s)
	if got := lines(t, log); got["err bad"] != 1 || got["out out"] != 0 {
		t.Errorf("got %v", got)
	}
}

func TestLoggerOfATerminal(t *testing.T) {
	uri, log := loggerURI(t, schemeBinary, "kept")
	s := open(t, Config{Stdout: uri, Terminal: true})
	if err := start(t, s, "tty -s && echo yes").Wait(); err != nil {
		t.Fatal(err)
	}
	drain(t, s)
	if got := lines(t, log); got["out yes"] != 1 {
		t.Errorf("got %v", got)
	}
}

func TestLoggerOfTheOldKind(t *testing.T) {
	uri, log := loggerURI(t, schemeBinary, "old")
	s := open(t, Config{Stdout: uri, Stderr: uri})
	if err := start(t, s, "echo hello").Wait(); err != nil {
		t.Fatal(err)
	}
	drain(t, s)
	if got := lines(t, log); got["out hello"] != 1 || got["last words"] != 1 {
		t.Errorf("got %v, want all a logger writes before its end", got)
	}
	strict, _ := loggerURI(t, schemeBinaryV2, "old")
	if _, err := Open(t.Context(), Config{Stdout: strict}); !errdefs.IsUnavailable(err) {
		t.Errorf("without the byte: %v", err)
	}
}

func TestLoggerThatIsNeverReady(t *testing.T) {
	for _, scheme := range []string{schemeBinary, schemeBinaryV2} {
		uri, _ := loggerURI(t, scheme, "dies")
		if _, err := Open(t.Context(), Config{Stdout: uri}); !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), "no such driver") {
			t.Errorf("%s: %v", scheme, err)
		}
		uri, _ = loggerURI(t, scheme, "hesitates")
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := Open(ctx, Config{Stdout: uri}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", scheme, err)
		}
		uri = scheme + ":///does/not/exist"
		if _, err := Open(t.Context(), Config{Stdout: uri}); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v", scheme, err)
		}
	}
	if children := children(t); len(children) > 0 {
		t.Errorf("left: %v", children)
	}
}

func TestLoggerThatQuitsHurtsNobody(t *testing.T) {
	uri, _ := loggerURI(t, schemeBinaryV2, "quits")
	s := open(t, Config{Stdout: uri, Stderr: uri})
	if err := start(t, s, "echo one; head -c 1000000 /dev/zero; echo end >&2").Wait(); err != nil {
		t.Fatal(err)
	}
	drain(t, s)
}

func TestLoggerThatIsDeafHurtsNobody(t *testing.T) {
	uri, _ := loggerURI(t, schemeBinaryV2, "deaf")
	s := open(t, Config{Stdout: uri})
	s.out[0].to.w.(*loggerPipe).stall = 100 * time.Millisecond
	if err := start(t, s, "head -c 1000000 /dev/zero").Wait(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	s.Drain(ctx)
	s.Close()
	if children := children(t); len(children) > 0 {
		t.Errorf("left after Close: %v", children)
	}
}

func TestLoggersChildrenEndWithIt(t *testing.T) {
	uri, log := loggerURI(t, schemeBinaryV2, "parent")
	s := open(t, Config{Stdout: uri})
	if err := start(t, s, "echo hello").Wait(); err != nil {
		t.Fatal(err)
	}
	drain(t, s)
	for child := range lines(t, log) {
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
			stat, err := os.ReadFile("/proc/" + child + "/stat")
			if err != nil || strings.Contains(string(stat), ") Z ") {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("it lives: %s", stat)
			}
		}
	}
}

func TestLoggerCommand(t *testing.T) {
	u, err := parseURI("binary:///bin/logger?b=2&a=%2Fx%20y&flag")
	if err != nil {
		t.Fatal(err)
	}
	cmd := loggerCommand(u, Config{ID: "i", Namespace: "n"})
	want := `["/bin/logger" "b" "2" "a" "/x y" "flag" ""] ["CONTAINER_ID=i" "CONTAINER_NAMESPACE=n"]`
	if got := fmt.Sprintf("%q %q", cmd.Args, cmd.Env); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// children of this process that live.
func children(t *testing.T) (out []string) {
	t.Helper()
	tasks, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		b, _ := os.ReadFile(task) // a thread may have gone
		out = append(out, strings.Fields(string(b))...)
	}
	return out
}
