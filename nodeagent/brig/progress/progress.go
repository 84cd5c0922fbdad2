// Package progress shows how far a transfer of bytes has come: one redrawn line
// on a terminal, otherwise a plain line now and then, for logs. Not safe for
// use by several goroutines.
package progress

import (
	"fmt"
	"io"
	"strings"
	"time"

	"brig/nodeagent/brig/view"
)

const (
	redrawEvery = 100 * time.Millisecond
	lineEvery   = 5 * time.Second
	barWidth    = 30
)

// Meter is one transfer. Its zero value is not usable: make it with Start.
type Meter struct {
	w        io.Writer
	terminal bool
	label    string
	last     time.Time
}

// Start begins a transfer called label, for example "pulling busybox". With
// terminal a bar is redrawn in place.
func Start(w io.Writer, terminal bool, label string) *Meter {
	m := &Meter{w: w, terminal: terminal, label: label, last: time.Now()}
	if terminal {
		fmt.Fprintf(w, "\r%s", label)
	} else {
		fmt.Fprintln(w, label)
	}
	return m
}

// Update shows that done of total bytes are there; total 0 means unknown. Most
// calls print nothing.
func (m *Meter) Update(done, total uint64) {
	every := lineEvery
	if m.terminal {
		every = redrawEvery
	}
	if time.Since(m.last) < every {
		return
	}
	m.last = time.Now()
	if m.terminal {
		fmt.Fprintf(m.w, "\r\x1b[K%s %s", m.label, bar(done, total))
		return
	}
	fmt.Fprintf(m.w, "%s: %s\n", m.label, amount(done, total))
}

// End replaces what was shown by one last line; an empty text leaves none on a
// terminal and adds none elsewhere.
func (m *Meter) End(text string) {
	if m.terminal {
		fmt.Fprint(m.w, "\r\x1b[K")
	}
	if text != "" {
		fmt.Fprintln(m.w, text)
	}
}

func amount(done, total uint64) string {
	if total == 0 {
		return view.Bytes(done)
	}
	return fmt.Sprintf("%s of %s", view.Bytes(done), view.Bytes(total))
}

func bar(done, total uint64) string {
	if total == 0 {
		return view.Bytes(done)
	}
	full := int(min(done, total) * barWidth / total)
	return "[" + strings.Repeat("=", full) + strings.Repeat(" ", barWidth-full) + "] " + amount(done, total)
}
