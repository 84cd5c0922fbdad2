package phases

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestWhatIsWrittenIsTakenOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ns", "id")
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		r := &Recorder{}
		mount := r.Begin("mount")
		time.Sleep(time.Millisecond)
		mount()
		gate := r.Begin("gate")
		time.Sleep(2 * time.Millisecond)
		gate()
		if err := r.Write(path); err != nil {
			t.Fatal(err)
		}
		got, err := Take(path)
		want := []Phase{
			{"mount", begin, begin.Add(time.Millisecond)},
			{"gate", begin.Add(time.Millisecond), begin.Add(3 * time.Millisecond)},
		}
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%v (-want +got):\n%s", err, diff)
		}
	})
	if again, err := Take(path); err != nil || again != nil {
		t.Errorf("taken again: %v, %v", again, err)
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestNobodyRecords(t *testing.T) {
	var r *Recorder
	r.Begin("x")()
	path := filepath.Join(t.TempDir(), "id")
	if err := r.Write(path); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("%v; want no file", err)
	}
}

func TestWhatIsNoPhasesIsRemovedToo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "id")
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if list, err := Take(path); err == nil {
		t.Errorf("took %v", list)
	}
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("%v; want no file", err)
	}
}
