package compat

import (
	"bytes"
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// events follows containerd's and returns the topics of tasks so far.
func (c *containerd) events(t *testing.T) func() []string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, filepath.Join(c.programs, "ctr"), "--address", filepath.Join(c.dir, "c.sock"), "events")
	var out buffer
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); _ = cmd.Wait() })
	time.Sleep(500 * time.Millisecond) // it does not tell when it listens
	return func() (topics []string) {
		for line := range strings.Lines(out.String()) {
			for _, word := range strings.Fields(line) {
				if strings.HasPrefix(word, "/tasks/") {
					topics = append(topics, word)
				}
			}
		}
		return topics
	}
}

// buffer may be read while it is written.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
