package bundle

import (
	"errors"
	"os"
	"testing"
	"time"

	"brig/shim/runsc"

	"github.com/google/go-cmp/cmp"
)

func TestRecordsSurvive(t *testing.T) {
	b := Bundle(t.TempDir())
	if err := os.Mkdir(b.Dir(), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Exit(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("exit before there is one: %v; want ErrNotExist", err)
	}
	record := Record{Namespace: "ns", ID: "a", Runsc: runsc.Runsc{Binary: "/runsc", Root: "/r", Network: runsc.NetworkNone}}
	exit := Exit{PID: 3, Code: 137, OOM: true, At: time.Unix(1700000000, 5).UTC()}
	for range 2 { // the second overwrites
		if err := errors.Join(b.WriteRecord(record), b.WriteExit(exit)); err != nil {
			t.Fatal(err)
		}
	}
	gotRecord, err := b.Record()
	if diff := cmp.Diff(record, gotRecord); err != nil || diff != "" {
		t.Errorf("record: %v\n%s", err, diff)
	}
	gotExit, err := b.Exit()
	if diff := cmp.Diff(exit, gotExit); err != nil || diff != "" {
		t.Errorf("exit: %v\n%s", err, diff)
	}
	entries, err := os.ReadDir(b.Dir())
	if err != nil || len(entries) != 2 {
		t.Errorf("files left: %v, %v; want the two records", entries, err)
	}
}
