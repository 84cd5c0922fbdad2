package command_test

import (
	"io"
	"path/filepath"
	"testing"

	"brig/nodeagent/brig/command"
)

func TestRun(t *testing.T) {
	n, socket := node(t)
	check(t, brig(t, socket, "", "run", "img", "--", "say", "out\n", "err\n", "3"), result{Status: 3, Out: "out\n", Err: "err\n"})
	check(t, brig(t, socket, "", "run", "--json", "img", "--", "say", "grüße", "", "0"), result{Out: `{
  "id": "sb-0000000000000002",
  "stdout": "grüße",
  "stderr": "",
  "exit": {
    "code": 0,
    "reason": "exited",
    "at": "2030-01-02T03:04:05Z"
  }
}
`})
	if len(n.sandboxes) != 1 {
		t.Errorf("%d sandboxes are left, expected the first alone", len(n.sandboxes))
	}
}

func TestLogs(t *testing.T) {
	_, socket := node(t)
	check(t, brig(t, socket, "", "create", "img", "--", "say", "a\nü€", "oops\n", "0"), result{Out: "sb-0000000000000002\n"})
	check(t, brig(t, socket, "", "logs", "-f", "sb-0000000000000002"), result{Out: "a\nü€", Err: "oops\n"})
	// The fake sends three bytes at a time and so cuts the last character.
	check(t, brig(t, socket, "", "logs", "--json", "sb-0000000000000002"), result{Out: "" +
		`{"stream":"stdout","offset":0,"text":"a\n"}` + "\n" +
		`{"stream":"stdout","offset":2,"text":"ü"}` + "\n" +
		`{"stream":"stdout","offset":4,"text":"€"}` + "\n" +
		`{"stream":"stderr","offset":0,"text":"oop"}` + "\n" +
		`{"stream":"stderr","offset":3,"text":"s\n"}` + "\n"})
}

func TestFollowingOutlivesARestartOfBrigd(t *testing.T) {
	n := &fakeNode{}
	socket := filepath.Join(t.TempDir(), "s")
	stop := n.serve(t, socket)
	fakeImages{n}.add("img", 1)
	check(t, brig(t, socket, "", "create", "img", "--", "serve"), result{Out: first + "\n"})
	n.write(first, "one ")
	out, in := pipe(t)
	status := make(chan int, 1)
	go func() {
		status <- command.Main(t.Context(), command.Streams{Out: in, Err: in}, []string{"--socket", socket, "logs", "-f", first})
		in.Close()
	}()
	got := make([]byte, 4)
	if _, err := io.ReadFull(out, got); err != nil || string(got) != "one " {
		t.Fatalf("%q, %v", got, err)
	}
	stop()
	n.write(first, "two\n")
	n.serve(t, socket)
	n.end(first)
	rest, err := io.ReadAll(out)
	if err != nil || string(rest) != "two\n" {
		t.Errorf("after the restart %q (%v), expected %q", rest, err, "two\n")
	}
	if got := <-status; got != 0 {
		t.Errorf("status %d", got)
	}
}
