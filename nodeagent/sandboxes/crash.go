package sandboxes

import (
	"context"

	"github.com/containerd/errdefs"

	"brig/nodeagent/clock"
)

// crashed tells whether the kernel of a sandbox that has just ended died, which its
// program's status does not tell from a signal to the program. The shim keeps the answer,
// so that it does not matter whether brigd was there when it happened.
func (m *Manager) crashed(k *keeper) bool {
	ctx, cancel := context.WithTimeout(m.ctx, countTimeout)
	defer cancel()
	for {
		crashed, err := m.runtime.Crashed(ctx, string(k.id))
		if err == nil {
			return crashed
		}
		if errdefs.IsNotFound(err) || ctx.Err() != nil {
			m.log.Warn("whether a sandbox's kernel died is not known", "sandbox", k.id, "err", err)
			return false
		}
		clock.Pause(ctx, retryWait)
	}
}
