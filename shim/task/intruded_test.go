package task

import (
	"errors"
	"testing"
)

// TestIntruded: a sandbox whose packets could go round its policy ends, and the gate is
// told when nobody is left to watch.
func TestIntruded(t *testing.T) {
	f := setUp(t, "/bin/sleep", "1000")
	f.must(f.create())
	f.must(f.start())
	select {
	case <-f.door.last.Gone:
		t.Fatal("the gate is told that the sentry has ended")
	default:
	}
	f.door.last.Intruded(errors.New("interface eth1 came"))
	f.ends(killed)
	<-f.door.last.Gone
	f.told("Created", "Started", `Exited "" 137`, "Deleted 137")
}
