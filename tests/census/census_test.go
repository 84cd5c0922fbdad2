package census_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"brig/internal/require"
	"brig/tests/census"
)

func TestDiff(t *testing.T) {
	before := census.Census{"netns a": true, "link lo ": true}
	after := census.Census{"netns b": true, "link lo ": true}
	if got, want := census.Diff(before, after), "- netns a\n+ netns b\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := census.Diff(before, before); got != "" {
		t.Errorf("a census differs from itself: %q", got)
	}
}

// TestWhatIsMadeIsSeen makes one of what is easily made and taken away.
func TestWhatIsMadeIsSeen(t *testing.T) {
	require.Net(t)
	before, err := census.Take()
	if err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) {
		if out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", args, err, out)
		}
	}
	run("ip", "netns", "add", "brigt-census")
	defer run("ip", "netns", "delete", "brigt-census")
	run("ip", "link", "add", "brigt-census", "type", "veth", "peer", "name", "brigt-peer")
	defer run("ip", "link", "delete", "brigt-census")
	run("nft", "add", "table", "inet", "brigt-census")
	defer run("nft", "delete", "table", "inet", "brigt-census")
	dir, err := os.MkdirTemp("/tmp", "brig-census-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	after, err := census.Take()
	if err != nil {
		t.Fatal(err)
	}
	diff := census.Diff(before, after)
	for _, want := range []string{
		"+ netns brigt-census\n", "+ link brigt-census veth\n", "+ nft table inet brigt-census\n", "+ file " + dir + "\n",
		"+ mount /run/netns/brigt-census nsfs\n",
	} {
		if !strings.Contains(diff, want) {
			t.Errorf("the difference lacks %q:\n%s", want, diff)
		}
	}
}
