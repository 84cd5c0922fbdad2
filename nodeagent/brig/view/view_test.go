package view_test

import (
	"bytes"
	"testing"
	"time"

	"brig/nodeagent/brig/view"
	"github.com/google/go-cmp/cmp"
)

func TestBytes(t *testing.T) {
	got := map[uint64]string{}
	for _, n := range []uint64{0, 999, 1000, 999_949, 999_950, 34_500_000, 1 << 40, 1 << 63} {
		got[n] = view.Bytes(n)
	}
	want := map[uint64]string{
		0: "0 B", 999: "999 B", 1000: "1.0 kB", 999_949: "999.9 kB", 999_950: "1.0 MB", 34_500_000: "34.5 MB",
		1 << 40: "1.1 TB", 1 << 63: "9223.4 PB",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("sizes differ (-want +got):\n%s", diff)
	}
}

func TestSandboxRows(t *testing.T) {
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	at := func(d time.Duration) *time.Time { v := now.Add(d); return &v }
	var out bytes.Buffer
	err := view.Table(&out, view.SandboxRows([]view.Sandbox{
		{ID: "sb-a", Name: "web", State: "running", Image: "img", CreatedAt: at(-90 * time.Minute), Deadline: at(30 * time.Second)},
		{ID: "sb-b", State: "exited", Image: "img", CreatedAt: at(-72 * time.Hour), Deadline: at(time.Hour),
			Exit: &view.Exit{Code: 137, Reason: "oom"}, Argv: []string{"sh", "-c", "echo \x1b[2J; a very long line that goes on and on"}},
		{ID: "sb-c", State: "exited", Image: "img", CreatedAt: at(time.Second), Exit: &view.Exit{Code: 3, Reason: "exited"}, Argv: []string{""}},
		{ID: "sb-d", State: "creating", Image: "img"},
	}, now))
	if err != nil {
		t.Fatal(err)
	}
	want := "" +
		"ID    NAME  STATE             CREATED  ENDS    IMAGE  COMMAND\n" +
		"sb-a  web   running           1h ago   in 30s  img    -\n" +
		"sb-b  -     exited 137 (oom)  3d ago   -       img    sh -c \"echo \\x1b[2J; a very long line t…\n" +
		"sb-c  -     exited 3          0s ago   -       img    \"\"\n" +
		"sb-d  -     creating          -        -       img    -\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("table differs (-want +got):\n%s", diff)
	}
}
