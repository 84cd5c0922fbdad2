package task

import (
	"sync"

	"brig/internal/config"
	"brig/shim/bundle"
	"brig/shim/runsc"
)

// early is the runsc that is loaded while containerd makes up its request: the sandbox
// that a shim is made for is asked for at once.
type early struct {
	mu    sync.Mutex // held while it is loaded, so that a create waits for that
	over  bool       // the sandbox is made, or was
	runsc *runsc.Early
}

// Ready has a runsc loaded for the sandbox of bundle b, which is about to be asked for. The
// create finds out what of cfg, or of another configuration, cannot be used.
func (s *Shim) Ready(cfg *config.Config, b bundle.Bundle) {
	s.early.mu.Lock()
	defer s.early.mu.Unlock()
	if s.early.over {
		return
	}
	var err error
	if s.early.runsc, err = runsc.Load(runsc.Path(cfg), b.Dir(), b.Slot().Dir()); err != nil {
		s.opts.Log.Warn("no runsc is loaded early", "err", err)
	}
}

// takeEarly returns what Ready has loaded, once.
func (s *Shim) takeEarly() *runsc.Early {
	s.early.mu.Lock()
	defer s.early.mu.Unlock()
	e := s.early.runsc
	s.early.runsc, s.early.over = nil, true
	return e
}
