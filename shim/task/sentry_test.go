package task

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"brig/shim/runsc"
	"brig/shim/stdio"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// underLiar is a running container of a pod whose sentry gives one answer to all calls.
func underLiar(t *testing.T, answer string) *Task {
	t.Helper()
	root := t.TempDir()
	l, err := net.Listen("unix", filepath.Join(root, "runsc-pod.sock"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				var call any
				if json.NewDecoder(conn).Decode(&call) == nil {
					_, _ = conn.Write([]byte(answer))
				}
			}()
		}
	}()
	sentry := exec.Command("sleep", "1000")
	if err := sentry.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sentry.Process.Kill(); _ = sentry.Wait() })
	s := New(Options{Namespace: "test", Gate: new(door), Emit: func(Event) {}, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	pod := s.newRoot(CreateRequest{ID: "pod"}, nil)
	b := pod.sandbox
	b.pod, b.sentry, b.control = true, sentry.Process, runsc.NewControl(root, "pod")
	joined := newTask(b, CreateRequest{ID: "a"})
	joined.id = runsc.JoinedID("a")
	for _, task := range []*Task{pod, joined} {
		task.init.state, task.init.io = Running, new(stdio.IO)
		s.tasks[task.request.ID] = task
	}
	t.Cleanup(func() { joined.markOver() }) // for who has yet to look
	return joined
}

// A sentry that answers has others in its care.
func TestAContainerThatIsNotThereIsNoReasonToKillItsPod(t *testing.T) {
	a := underLiar(t, `{"success":false,"err":"no such process"}`)
	if err := a.sandbox.shim.Kill(t.Context(), "a", "", unix.SIGKILL, true); !errdefs.IsNotFound(err) {
		t.Error(err)
	}
	var status unix.WaitStatus
	if pid, err := unix.Wait4(a.sandbox.pid(), &status, unix.WNOHANG, nil); err != nil || pid != 0 {
		t.Errorf("the sentry has ended: %v, %v", pid, err)
	}
}

// What is kept of a sentry's answers, and made of them, is bounded.
func TestASentryThatInvents(t *testing.T) {
	var names, processes []string
	for i := range 100_000 {
		names = append(names, fmt.Sprintf(`"%d":%d`, i, i))
		processes = append(processes, "{}")
	}
	a := underLiar(t, `{"success":true,"result":{"containerUsage":{"a+":1,`+strings.Join(names, ",")+`}}}`)
	if _, err := a.sandbox.shim.Stats(t.Context(), "a"); err != nil {
		t.Error(err)
	}
	if s := &a.sandbox.shares; len(s.given)+len(s.seen) > 2 {
		t.Errorf("%d and %d accounts of one container", len(s.given), len(s.seen))
	}
	a = underLiar(t, `{"success":true,"result":[`+strings.Join(processes, ",")+`]}`)
	if _, listed, err := a.sandbox.shim.Processes(t.Context(), "a"); err != nil || len(listed) > maxListed+1 {
		t.Errorf("%d processes, %v", len(listed), err)
	}
}

// A logger may take seconds to end, and nobody else waits for it.
func TestAFreeHoldsUpNobody(t *testing.T) {
	a := underLiar(t, `{"success":true}`)
	x := newProcess("x", stdio.Config{Stdout: "binary:///bin/sh?-c=" + url.QueryEscape("trap '' TERM; exec 5>&-; sleep 1000")})
	io, err := stdio.Open(t.Context(), x.streams)
	if err != nil {
		t.Fatal(err)
	}
	io.Started()
	x.started(1, io)
	a.execs["x"] = x
	freed := make(chan error, 1)
	go func() { freed <- a.free(t.Context()) }()
	for {
		asked := time.Now()
		if _, err := a.sandbox.shim.Status("a", "x"); err != nil || time.Since(asked) > time.Second {
			t.Fatalf("an answer after %v: %v", time.Since(asked), err)
		}
		select {
		case err := <-freed:
			if err != nil {
				t.Error(err)
			}
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
}
