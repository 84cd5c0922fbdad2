package sandboxes

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"
	"golang.org/x/sync/errgroup"

	"brig/internal/failpoint"
	"brig/internal/sandbox"
	"brig/nodeagent/record"
)

// undoAtOnce bounds how many half-made sandboxes are undone at the same time.
const undoAtOnce = 8

// halfMade is a sandbox that an earlier brigd was making when it died. It is undone in
// the background; until then it is shown as being made, and it holds its name and its
// request id.
type halfMade struct {
	rec record.Record
	k   *keeper
}

func (m *Manager) findHalfMade(rec record.Record) halfMade {
	k := m.addKeeper(rec, func(error) {})
	k.release = m.hold(rec)
	return halfMade{rec, k}
}

// undoHalfMade undoes all that Recover has found.
func (m *Manager) undoHalfMade() error {
	var group errgroup.Group
	group.SetLimit(undoAtOnce)
	for _, h := range m.halfMade {
		group.Go(func() error { return m.undo(h) })
	}
	return group.Wait()
}

func (m *Manager) undo(h halfMade) error {
	m.log.Info("undoing a half-made sandbox", "sandbox", h.rec.ID)
	err := m.scrap(h.rec.ID)
	failpoint.Hit("recover.undone")
	k := h.k
	k.fault = errdefs.ErrAborted.WithMessage(fmt.Sprintf("brigd was restarted while it made sandbox %s: create it again", k.id))
	m.dropKeeper(k)
	close(k.ready)
	close(k.ended)
	close(k.clean)
	return err
}

// awaitUndone waits while a half-made sandbox holds what the request asks for: its
// caller comes back to have it made after all, not to hear that it exists. GPUs that one
// holds are wanted by anybody.
func (m *Manager) awaitUndone(ctx context.Context, owner uint32, r record.Request) error {
	for _, h := range m.halfMade {
		was := h.rec.Request
		same := r.RequestID != "" && r.RequestID == was.RequestID || r.Name != "" && r.Name == was.Name
		if (!same || h.rec.Owner != owner) && (r.GPU == nil || len(h.rec.GPUs) == 0) {
			continue
		}
		select {
		case <-h.k.clean:
		case <-ctx.Done():
			return errors.Join(errdefs.ErrUnavailable.WithMessage("what an earlier brigd had half made is being undone: ask again"), context.Cause(ctx))
		}
	}
	return nil
}

// stillborn tells of a create that failed and could not be undone at once: nobody was told
// that it was made, and its record is there until nothing else of it is.
func stillborn(r *record.Record) bool {
	return r.Exit != nil && r.Exit.Reason == sandbox.ReasonStartFailed
}

// finishUndoing undoes what is left of an earlier try of the request, so that this one does
// not find it in its place.
func (m *Manager) finishUndoing(ctx context.Context, owner uint32, r record.Request) error {
	if r.RequestID == "" {
		return nil
	}
	earlier, err := m.store.Requested(record.Record{Owner: owner, Request: r})
	if err != nil || earlier == nil || !stillborn(earlier) || m.keeper(earlier.ID) != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, undoTimeout)
	defer cancel()
	err = m.cleanUp(ctx, earlier.ID)
	if err == nil {
		err = m.forgetStillborn(earlier.ID)
	}
	if err != nil {
		return stillUndoing(earlier.ID, err)
	}
	return nil
}

func stillUndoing(id sandbox.ID, why error) error {
	return errors.Join(errdefs.ErrUnavailable.WithMessage(fmt.Sprintf("what an earlier try has left, %s, is not undone yet: ask again", id)), why)
}
