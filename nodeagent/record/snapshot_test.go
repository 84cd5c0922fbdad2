package record

import (
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

func TestSnapshotName(t *testing.T) {
	for name, want := range map[string]string{
		"web": "snapshot.brig/1000/web:latest", "web:v1": "snapshot.brig/1000/web:v1", "a.b-c_d": "snapshot.brig/1000/a.b-c_d:latest",
		"": "", "Web": "", "a/b": "", "../0/web": "", "-a": "", ".a": "", "a..b": "", "a b": "", "web@sha256:" + strings.Repeat("a", 64): "",
		strings.Repeat("a", 65): "", "a:": "", "a\n": "", "a\x00": "", "a:b:c": "",
	} {
		got, err := SnapshotName(1000, name)
		if got != want || (err == nil) != (want != "") || err != nil && !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %q, %v; want %q", name, got, err, want)
		}
	}
}

func TestMaySee(t *testing.T) {
	for _, c := range []struct {
		image          string
		owner, another bool
	}{
		{"snapshot.brig/1000/web:latest", true, false},
		{"snapshot.brig/1000/web", true, false},
		{"snapshot.brig/1000/web@sha256:" + strings.Repeat("a", 64), true, false},
		{"snapshot.brig/01000/web", false, false},
		{"snapshot.brig/web", false, false},
		{"SNAPSHOT.brig/1000/web", false, false},
		{"snapshot.brig.example/1000/web", true, true},
		{"localhost:5000/snapshot.brig/1000/web", true, true},
		{"busybox", true, true},
	} {
		if MaySee(1000, c.image) != c.owner || MaySee(1001, c.image) != c.another || !MaySee(0, c.image) {
			t.Errorf("%s: owner %v, another %v, root %v", c.image, MaySee(1000, c.image), MaySee(1001, c.image), MaySee(0, c.image))
		}
	}
}
