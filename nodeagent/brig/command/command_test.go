package command_test

import (
	"bytes"
	"strings"
	"testing"

	"brig/nodeagent/brig/command"

	"github.com/google/go-cmp/cmp"
)

// result is the whole outcome of one command line.
type result struct {
	Status int
	Out    string
	Err    string
}

func brig(t *testing.T, socket, stdin string, args ...string) result {
	t.Helper()
	var out, errs bytes.Buffer
	streams := command.Streams{In: strings.NewReader(stdin), Out: &out, Err: &errs}
	status := command.Main(t.Context(), streams, append([]string{"--socket", socket}, args...))
	return result{status, out.String(), errs.String()}
}

func check(t *testing.T, got, want result) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("outcome differs (-want +got):\n%s", diff)
	}
}

const first = "sb-0000000000000001"

// node is a fake with the image "img" and one running sandbox made from it.
func node(t *testing.T) (*fakeNode, string) {
	n := &fakeNode{}
	socket := n.start(t)
	fakeImages{n}.add("img", 34_500_000)
	check(t, brig(t, socket, "", "create", "--name", "web", "--port", "8080", "--tag", "team=a", "img", "--", "serve", "a b"),
		result{Out: first + "\n"})
	return n, socket
}
