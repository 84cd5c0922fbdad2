package execs

import (
	"time"

	"brig/internal/sandbox"
)

// Figures are told of programs, brigd's own among them: those that copy files, and probes.
// Calls are on the path of execs and may come at once.
type Figures interface {
	// ExecStarted: a program runs, or was found again after a restart of brigd.
	ExecStarted()
	// ExecEnded comes once for every ExecStarted whose end brigd lives to see. took is
	// since the call that asked for it; below 0 if a clock was set back meanwhile.
	ExecEnded(took time.Duration)
	// ExecFailed: a program that the runtime was asked for does not run.
	ExecFailed()
	// ExecOutput: so many bytes were handed to a reader.
	ExecOutput(bytes int)
}

// unseen are figures that nobody looks at.
type unseen struct{}

func (unseen) ExecStarted()            {}
func (unseen) ExecEnded(time.Duration) {}
func (unseen) ExecFailed()             {}
func (unseen) ExecOutput(int)          {}

// runs marks that the program runs, until rest.
func (x *Exec) runs() {
	x.mu.Lock()
	x.running = true
	x.mu.Unlock()
	x.m.Figures.ExecStarted()
}

// Running counts the programs of a sandbox that run.
func (m *Manager) Running(id sandbox.ID) (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if b := m.boxes[id]; b != nil {
		for _, x := range b.live {
			x.mu.Lock()
			if x.running {
				n++
			}
			x.mu.Unlock()
		}
	}
	return n
}
