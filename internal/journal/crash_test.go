package journal

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// TestMain lets a test run its own binary as a process that it may kill.
func TestMain(m *testing.M) {
	if path := os.Getenv("JOURNAL_TEST_INPUT"); path != "" {
		fmt.Fprintln(os.Stderr, appendAll(path))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

const crashTotal = 40*Window + 5

// appendAll is a writer that knows nothing but the file.
func appendAll(path string) error {
	i, err := OpenInput(path)
	if err != nil {
		return err
	}
	for off := int64(0); ; {
		p := pattern(off, min(1+rand.Int64N(300_000), crashTotal-off))
		if off, err = i.Append(context.Background(), off, p, off+int64(len(p)) == crashTotal); err != nil || off == crashTotal {
			return err
		}
	}
}

// Writers that are killed at any instant, each going on where the file ends, and a reader
// that comes again now and then: every byte arrives once, and the end.
func TestKilledWriters(t *testing.T) {
	path := filepath.Join(t.TempDir(), "in")
	if err := CreateInput(path); err != nil {
		t.Fatal(err)
	}
	stop, done := make(chan struct{}), make(chan int)
	go func() {
		kills := 0
		defer func() { done <- kills }()
		for {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), "JOURNAL_TEST_INPUT="+path)
			if err := cmd.Start(); err != nil {
				t.Error(err)
				return
			}
			ended := make(chan struct{})
			go func() { _ = cmd.Wait(); close(ended) }()
			select {
			case <-ended:
			case <-time.After(time.Duration(20+rand.IntN(60)) * time.Millisecond):
				_ = cmd.Process.Kill()
				<-ended
				kills++
			case <-stop:
				_ = cmd.Process.Kill()
				<-ended
				return
			}
		}
	}()
	off := int64(0)
	for off < crashTotal {
		r, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		off = take(t, r, off, min(crashTotal, off+1+rand.Int64N(8*Window)))
		r.Close()
	}
	r, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got := take(t, r, off, crashTotal+1); got != crashTotal {
		t.Errorf("took %d; want %d and the end", got, crashTotal)
	}
	close(stop)
	if kills := <-done; kills == 0 {
		t.Error("nobody was killed: the test shows nothing")
	}
}
