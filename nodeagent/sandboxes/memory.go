package sandboxes

import (
	"context"
	"time"

	"github.com/containerd/errdefs"

	"brig/nodeagent/clock"
)

const (
	// survival is how long after a kill for want of memory a sandbox that runs has
	// survived it.
	survival = time.Second
	// countTimeout bounds a look at its account.
	countTimeout = 5 * time.Second
)

// survived notes the kills that did not end the sandbox, so that they do not explain a
// later end.
func (m *Manager) survived(k *keeper) {
	clock.Pause(m.ctx, survival)
	n, err := m.countKills(k)
	if err != nil {
		return // it has ended, or its end will tell
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if !isClosed(k.exit) {
		k.ooms = max(k.ooms, n)
	}
}

// oomKilled tells whether the kernel killed something in a sandbox that has just ended, and
// that is still accounted for: the host's count, so that it does not matter who listened
// when it happened.
func (m *Manager) oomKilled(k *keeper) bool {
	n, err := m.countKills(k)
	if err != nil {
		m.log.Warn("whether memory ran out is not known", "sandbox", k.id, "err", err)
		return false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return n > k.ooms
}

func (m *Manager) countKills(k *keeper) (int, error) {
	ctx, cancel := context.WithTimeout(m.ctx, countTimeout)
	defer cancel()
	for {
		n, err := m.runtime.OOMKills(ctx, string(k.id))
		if err == nil || errdefs.IsNotFound(err) || ctx.Err() != nil {
			return n, err
		}
		clock.Pause(ctx, retryWait)
	}
}
