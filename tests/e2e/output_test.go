package e2e

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"

	brigv1 "brig/nodeagent/api/brig/v1"
	"brig/tests/node"

	"connectrpc.com/connect"
)

// TestRunOutputIsExact streams 32 MiB while they are written.
func TestRunOutputIsExact(t *testing.T) {
	t.Parallel()
	n := use(t)
	const line, size = "0123456789abcde\n", 32 << 20
	r := n.Try(t, "run", "--block-network", n.busybox, "--", "sh", "-c", fmt.Sprintf("yes 0123456789abcde | head -c %d", size))
	want := sha256.Sum256([]byte(strings.Repeat(line, size/len(line))))
	if r.Code != 0 || sha256.Sum256([]byte(r.Stdout)) != want {
		t.Errorf("status %d, %d bytes of %d, stderr %q", r.Code, len(r.Stdout), size, r.Stderr)
	}
}

// TestOutputIsBounded keeps the youngest bytes, says where they begin, and does
// not let a program that writes without end fill the node.
func TestOutputIsBounded(t *testing.T) {
	const kept = 1 << 17
	n := launch(t, node.Options{Overrides: fmt.Sprintf("[sandboxes]\njournal_bytes = %d\n", kept)})
	id := n.Create(t, "--block-network", n.busybox, "--", "sh", "-c", "i=0; while [ $i -lt 60000 ]; do echo $i; i=$((i+1)); done")
	if r := n.Try(t, "wait", id); r.Code != 0 {
		t.Fatal(r)
	}
	var all strings.Builder
	for i := range 60000 {
		fmt.Fprintln(&all, i)
	}
	stream, err := n.Sandboxes.ReadOutput(t.Context(), connect.NewRequest(&brigv1.ReadOutputRequest{Sandbox: id}))
	if err != nil {
		t.Fatal(err)
	}
	var first uint64
	var got strings.Builder
	for stream.Receive() {
		m := stream.Msg()
		if got.Len() == 0 {
			first = m.GetOffset()
		}
		if m.GetOffset() != first+uint64(got.Len()) {
			t.Errorf("a piece at %d after %d bytes from %d", m.GetOffset(), got.Len(), first)
		}
		got.Write(m.GetData())
	}
	if err := stream.Err(); err != nil {
		t.Fatal(err)
	}
	if want := all.String()[min(first, uint64(all.Len())):]; got.String() != want {
		t.Errorf("%d bytes from %d are not the program's last ones", got.Len(), first)
	}
	if first == 0 || got.Len() < kept/2 || got.Len() > 2*kept {
		t.Errorf("kept %d bytes from %d of %d, with a bound of %d", got.Len(), first, all.Len(), kept)
	}
}

// TestManyAtOnce makes sandboxes side by side, each with its own address and output.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	n := use(t)
	const many = 8
	results := make(chan node.Result, many)
	for i := range many {
		go func() { results <- n.Try(t, "run", n.busybox, "--", "sh", "-c", "echo $0; exit $0", itoa(i)) }()
	}
	for range many {
		if r := <-results; r.Stdout != itoa(r.Code)+"\n" {
			t.Error(r)
		}
	}
}
