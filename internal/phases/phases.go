// Package phases carries what a shim did, and when, to brigd, which makes spans of it: a
// shim is to be small and start fast, so there is no OpenTelemetry in it.
//
// A Recorder collects phases in memory; Write puts them into one file, whole or not at
// all, where Take reads and removes them. Times are the machine's wall clock, which both
// sides share. A nil Recorder records nothing and costs nothing.
package phases

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// maxFile bounds what Take reads; a shim writes a few hundred bytes.
const maxFile = 64 << 10

// unfinished ends the name of a file that is being written.
const unfinished = ".next"

// Phase is something that took time.
type Phase struct {
	Name  string    `json:"name"`
	Begin time.Time `json:"begin"`
	End   time.Time `json:"end"`
}

// Recorder of phases; several goroutines may use it.
type Recorder struct {
	mu   sync.Mutex // guards list
	list []Phase
}

// Begin begins a phase, which end ends.
func (r *Recorder) Begin(name string) (end func()) {
	if r == nil {
		return func() {}
	}
	begin := time.Now()
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.list = append(r.list, Phase{Name: name, Begin: begin, End: time.Now()})
	}
}

// Write writes what was recorded to path.
func (r *Recorder) Write(path string) error {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	data, err := json.Marshal(r.list)
	r.mu.Unlock()
	if err != nil {
		return fmt.Errorf("encode phases: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("write phases: %w", err)
	}
	next := path + unfinished
	if err := os.WriteFile(next, data, 0o600); err != nil {
		return fmt.Errorf("write phases: %w", err)
	}
	return os.Rename(next, path)
}

// Remove removes what a shim wrote or began to write. No file is no error.
func Remove(path string) error {
	for _, p := range []string{path, path + unfinished} {
		if err := os.Remove(p); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove what a shim told: %w", err)
		}
	}
	return nil
}

// Take reads the phases at path and removes the file. No file is no phases.
func Take(path string) ([]Phase, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read phases: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err := errors.Join(err, os.Remove(path)); err != nil {
		return nil, fmt.Errorf("read phases: %w", err)
	}
	var list []Phase
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("read phases: %w", err)
	}
	return list, nil
}
