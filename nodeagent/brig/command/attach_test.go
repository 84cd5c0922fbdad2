package command_test

import (
	"testing"

	brigv1 "brig/nodeagent/api/brig/v1"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
)

func TestRunPassesStdinOn(t *testing.T) {
	n, socket := node(t)
	check(t, brig(t, socket, "through\x00\xff", "run", "-i", "img", "--", "cat"), result{Out: "through\x00\xff"})
	// What brigd took before it went is not sent twice.
	n.broken = true
	check(t, brig(t, socket, "twice or once", "run", "-i", "img", "--", "cat"), result{Out: "twice or once"})
	if n.broken {
		t.Error("nothing broke: the test shows nothing")
	}
}

func TestAttach(t *testing.T) {
	_, socket := node(t)
	const second = "sb-0000000000000002"
	check(t, brig(t, socket, "", "create", "-i", "img", "--", "cat"), result{Out: second + "\n"})
	check(t, brig(t, socket, "talk", "attach", second), result{Out: "talk"})
	check(t, brig(t, socket, "", "attach", "nobody"), result{Status: 125, Err: "brig: no sandbox \"nobody\"; brig ls shows them\n"})
}

func TestStreamFlags(t *testing.T) {
	n, socket := node(t)
	n.creates = nil
	brig(t, socket, "", "create", "-i", "-t", "--overflow", "block", "img", "--", "serve")
	brig(t, socket, "", "run", "img", "--", "say", "", "", "0")
	brig(t, socket, "", "run", "--overflow", "drop", "img", "--", "say", "", "", "0")
	want := []*brigv1.CreateRequest{
		{Image: "img", Argv: []string{"serve"}, Stdin: true, Tty: true, Overflow: brigv1.Overflow_OVERFLOW_BLOCK},
		{Image: "img", Argv: []string{"say", "", "", "0"}, Overflow: brigv1.Overflow_OVERFLOW_BLOCK},
		{Image: "img", Argv: []string{"say", "", "", "0"}},
	}
	if diff := cmp.Diff(want, n.creates, protocmp.Transform()); diff != "" {
		t.Errorf("creates differ (-want +got):\n%s", diff)
	}
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"create", "-i", "img"}, "brig: -i and -t need a program; a sandbox that idles has none that would use them\ntry: brig create --help\n"},
		{[]string{"create", "--overflow", "wait", "img"}, "brig: --overflow \"wait\": use drop or block\ntry: brig create --help\n"},
		{[]string{"run", "-t", "img", "--", "serve"}, "brig: -t needs a terminal on stdin; leave it out\ntry: brig run --help\n"},
		{[]string{"run", "--json", "-i", "img", "--", "serve"}, "brig: --json collects the output and takes no -i or -t; leave one out\ntry: brig run --help\n"},
		{[]string{"attach", "--json", "web"}, "brig: attach has no --json; use brig logs\ntry: brig attach --help\n"},
	} {
		check(t, brig(t, socket, "", tc.args...), result{Status: 2, Err: tc.want})
	}
}
