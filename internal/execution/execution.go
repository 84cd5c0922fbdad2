// Package execution is how brigd has a shim run a program beside a sandbox's own in one
// call, which are two of the Task API. Values only, no I/O.
//
// It travels as the payload of the Task API's Update, which containerd hands on unread:
// so containerd finds the shim, and a shim that does not know the type refuses it. All else
// of such a program is the Task API's: it is an exec like any other, with the same events.
package execution

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// TypeURL names the payload.
const TypeURL = "io.containerd.brig.v1/Run"

// Window is how long after a Run was asked for it may be obeyed. Whoever asked may have died
// meanwhile: who comes after it and finds no program knows after that time that none will
// be, and may run it again.
const Window = 2 * time.Second

// Run adds a program and starts it. One that does not come to run is not known afterwards.
type Run struct {
	ID string `json:"id"`
	// Until is the time of the machine (CLOCK_BOOTTIME) after which it is refused, as an
	// ErrOutOfRange.
	Until time.Duration `json:"until"`
	// Process to run. Without capabilities of its own it gets those of the sandbox's.
	Process *specs.Process `json:"process"`
	// Streams, by the names under which the shim opens them; empty: none.
	Stdin    string `json:"stdin,omitempty"`
	Stdout   string `json:"stdout,omitempty"`
	Stderr   string `json:"stderr,omitempty"`
	Terminal bool   `json:"terminal,omitempty"`
}

// Encode returns the payload.
func (r Run) Encode() ([]byte, error) { return json.Marshal(r) }

// Decode reads a payload, refusing a field that it does not know.
func Decode(payload []byte) (Run, error) {
	var r Run
	d := json.NewDecoder(bytes.NewReader(payload))
	d.DisallowUnknownFields()
	err := d.Decode(&r)
	if err == nil && (r.ID == "" || r.Process == nil || r.Until <= 0) {
		err = errors.New("there is no program in it, or no time")
	}
	if err != nil {
		return Run{}, fmt.Errorf("program to run: %w", err)
	}
	return r, nil
}

// The streams are the Task API's.

// GetStdin is the name of the stream.
func (r Run) GetStdin() string { return r.Stdin }

// GetStdout is the name of the stream.
func (r Run) GetStdout() string { return r.Stdout }

// GetStderr is the name of the stream.
func (r Run) GetStderr() string { return r.Stderr }

// GetTerminal tells whether they are one terminal.
func (r Run) GetTerminal() bool { return r.Terminal }
