package server

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"

	brigv1 "brig/nodeagent/api/brig/v1"
	"brig/nodeagent/api/brig/v1/brigv1connect"
)

func create(t *testing.T, c brigv1connect.SandboxesClient, r *brigv1.CreateRequest) string {
	t.Helper()
	r.Image, r.Argv = "localhost/x", []string{"program"}
	made, err := c.Create(t.Context(), connect.NewRequest(r))
	if err != nil {
		t.Fatal(err)
	}
	return made.Msg.GetSandbox().GetId()
}

func TestWriteInput(t *testing.T) {
	s := serve(t)
	c := brigv1connect.NewSandboxesClient(s.h2, "http://brig")
	id, without := create(t, c, &brigv1.CreateRequest{Stdin: true}), create(t, c, &brigv1.CreateRequest{})
	const mib = 1 << 20
	for _, step := range []struct {
		sandbox string
		offset  uint64
		data    string
		eof     bool
		want    string // the offset, or the error
		answer  uint64
	}{
		{sandbox: without, data: "x", want: "failed_precondition: sandbox " + without + " was made without stdin: create one with it"},
		{sandbox: id, data: "", answer: 0},
		{sandbox: id, data: "a\x00\xff", answer: 3},
		{sandbox: id, data: "a\x00\xffb", answer: 4},
		{sandbox: id, offset: 9, data: "b", want: "out_of_range: offset 9 is beyond what is acknowledged: go on from offset 4"},
		{sandbox: id, offset: 1 << 63, data: "b", want: "invalid_argument: invalid offset 9223372036854775808: larger than any stream"},
		{sandbox: id, offset: 4, data: strings.Repeat("x", mib+1), want: "invalid_argument: data has 1048577 bytes: at most 1048576 at once"},
		{sandbox: id, offset: 1, data: "\x00", eof: true, want: "out_of_range: stdin cannot end at 2: 4 bytes are acknowledged; go on from offset 4"},
		{sandbox: id, offset: 3, data: "bc", eof: true, answer: 5},
		{sandbox: id, offset: 3, data: "bc", eof: true, answer: 5},
		{sandbox: id, offset: 5, data: "d", want: "failed_precondition: stdin has ended at offset 5"},
	} {
		answer, err := c.WriteInput(t.Context(), connect.NewRequest(&brigv1.WriteInputRequest{
			Sandbox: step.sandbox, Offset: step.offset, Data: []byte(step.data), Eof: step.eof,
		}))
		got := ""
		if err != nil {
			got = err.Error()
		} else if answer.Msg.GetOffset() != step.answer {
			t.Errorf("%.20q at %d: acknowledged %d; want %d", step.data, step.offset, answer.Msg.GetOffset(), step.answer)
		}
		if got != step.want {
			t.Errorf("%.20q at %d: %s; want %s", step.data, step.offset, got, step.want)
		}
	}
	path := filepath.Join(s.cfg.JournalDir(id), "stdin")
	if b, err := os.ReadFile(path); err != nil || string(b) != "a\x00\xffbc" {
		t.Errorf("stdin is %q, %v", b, err)
	}
	s.node.Exit(id, 0)
	if _, err := c.Wait(t.Context(), connect.NewRequest(&brigv1.WaitRequest{Sandbox: id})); err != nil {
		t.Fatal(err)
	}
	_, err := c.WriteInput(t.Context(), connect.NewRequest(&brigv1.WriteInputRequest{Sandbox: id, Offset: 5}))
	if connect.CodeOf(err) != connect.CodeFailedPrecondition {
		t.Errorf("after the end: %v; want failed_precondition", err)
	}
}

// A write to a program that does not read waits, and ends with the program.
func TestWriteInputEndsWithTheSandbox(t *testing.T) {
	s := serve(t)
	c := brigv1connect.NewSandboxesClient(s.h2, "http://brig")
	id := create(t, c, &brigv1.CreateRequest{Stdin: true})
	fill := &brigv1.WriteInputRequest{Sandbox: id, Data: make([]byte, 1<<20)}
	if _, err := c.WriteInput(t.Context(), connect.NewRequest(fill)); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := c.WriteInput(t.Context(), connect.NewRequest(&brigv1.WriteInputRequest{Sandbox: id, Offset: 1 << 20, Data: []byte("x")}))
		done <- err
	}()
	select {
	case err := <-done:
		t.Fatalf("it did not wait: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	s.node.Exit(id, 0)
	if err := <-done; connect.CodeOf(err) != connect.CodeFailedPrecondition {
		t.Errorf("%v; want failed_precondition", err)
	}
}

func TestResizeTerminal(t *testing.T) {
	s := serve(t)
	c := brigv1connect.NewSandboxesClient(s.h2, "http://brig")
	id, without := create(t, c, &brigv1.CreateRequest{Tty: true, Size: &brigv1.WindowSize{Columns: 80, Rows: 24}}), create(t, c, &brigv1.CreateRequest{})
	for _, step := range []struct {
		sandbox string
		size    *brigv1.WindowSize
		want    string
	}{
		{id, &brigv1.WindowSize{Columns: 100, Rows: 40}, ""},
		{id, nil, "invalid_argument: invalid size 0 x 0: want at least 1 each"},
		{id, &brigv1.WindowSize{Columns: 65536, Rows: 1}, "invalid_argument: invalid size 65536 x 1: at most 65535 each"},
		{without, &brigv1.WindowSize{Columns: 100, Rows: 40}, "failed_precondition: sandbox " + without + " was made without a terminal: create one with tty"},
	} {
		_, err := c.ResizeTerminal(t.Context(), connect.NewRequest(&brigv1.ResizeTerminalRequest{Sandbox: step.sandbox, Size: step.size}))
		got := ""
		if err != nil {
			got = err.Error()
		}
		if got != step.want {
			t.Errorf("%v: %s; want %s", step.size, got, step.want)
		}
	}
	resizes := slices.DeleteFunc(s.node.Log(), func(line string) bool { return !strings.HasPrefix(line, "resize ") })
	if diff := cmp.Diff([]string{"resize " + id + " 100x40"}, resizes); diff != "" {
		t.Errorf("the runtime was told (-want +got):\n%s", diff)
	}
}
