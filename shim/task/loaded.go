package task

import (
	"sync"

	"brig/internal/config"
	"brig/shim/bundle"
	"brig/shim/runsc"
)

// loaded is the runsc that is loaded while containerd makes up its request: the sandbox
// that a shim is made for is asked for at once.
type loaded struct {
	mu    sync.Mutex // held while it is loaded, so that a create waits for that
	over  bool       // the sandbox is made, or was
	runsc *runsc.Early
}

// Ready has a runsc loaded for the sandbox of bundle b, which is about to be asked for. The
// create finds out what of cfg, or of another configuration, cannot be used.
func (s *Shim) Ready(cfg *config.Config, b bundle.Bundle) {
	s.loaded.mu.Lock()
	defer s.loaded.mu.Unlock()
	if s.loaded.over {
		return
	}
	var err error
	if s.loaded.runsc, err = runsc.Load(runsc.Path(cfg), b.Dir(), b.Slot().Dir()); err != nil {
		s.opts.Log.Debug("no runsc is loaded early", "err", err)
	}
}

// takeLoaded returns what Ready has loaded, once.
func (s *Shim) takeLoaded() *runsc.Early {
	s.loaded.mu.Lock()
	defer s.loaded.mu.Unlock()
	e := s.loaded.runsc
	s.loaded.runsc, s.loaded.over = nil, true
	return e
}
