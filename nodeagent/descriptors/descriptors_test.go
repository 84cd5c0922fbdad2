package descriptors

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestReady(t *testing.T) {
	limit, err := Ready()
	if err != nil {
		t.Fatal(err)
	}
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil || r.Cur != r.Max || limit != r.Max {
		t.Errorf("limit %d, told %d, of %d, %v", r.Cur, limit, r.Max, err)
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	want := min(r.Cur, grown)
	for line := range strings.Lines(string(status)) {
		if text, ok := strings.CutPrefix(line, "FDSize:"); ok {
			var size uint64
			for _, digit := range strings.TrimSpace(text) {
				size = size*10 + uint64(digit-'0')
			}
			if size < want {
				t.Errorf("the table has room for %d; want %d", size, want)
			}
		}
	}
	if entries, err := os.ReadDir("/proc/self/fd"); err != nil || len(entries) > 100 {
		t.Errorf("%d open files, %v", len(entries), err)
	}
}
