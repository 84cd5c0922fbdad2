package execs

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/containerd/errdefs"

	"brig/internal/sandbox"
)

// Find returns an exec that runs, or one that is kept. Its caller holds it, and must
// Leave it.
func (m *Manager) Find(ctx context.Context, sb Sandbox, id string) (*Exec, error) {
	if id == "" {
		return nil, invalid("exec_id is missing: say which exec")
	}
	if err := checkID(id); err != nil {
		return nil, err
	}
	none := errdefs.ErrNotFound.WithMessage(fmt.Sprintf("sandbox %s has no exec %s", sb.ID, id))
	if x := m.living(sb.ID, id); x != nil {
		if err := x.await(ctx); err != nil {
			x.Leave()
			if ctx.Err() != nil {
				return nil, err
			}
			return nil, none // it never came to run
		}
		return x, nil
	}
	x := m.newExec(sb, id)
	x.place()
	x.holders = 1
	if err := x.load(); err != nil {
		return nil, none
	}
	close(x.settled)
	return x, nil
}

// living returns an exec in memory, held.
func (m *Manager) living(sb sandbox.ID, id string) *Exec {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := m.boxes[sb]
	if b == nil || b.live[id] == nil {
		return nil
	}
	x := b.live[id]
	x.mu.Lock()
	defer x.mu.Unlock()
	x.holders++
	return x
}

// recall makes of a claim that came too late the exec that has the folder. It has ended,
// or it would be in memory.
func (x *Exec) recall() error {
	err := x.load()
	if err != nil {
		return errdefs.ErrUnavailable.WithMessage(fmt.Sprintf("exec %s is being removed: try again", x.id))
	}
	x.drop()
	close(x.settled)
	return nil
}

// load what is on disk of an exec that has ended.
func (x *Exec) load() error {
	if err := x.folder.read(noteFile, &x.note); err != nil {
		return err
	}
	exit, known, _ := x.folder.exit()
	if !known {
		exit, known = x.fate(time.Now().UTC())
	}
	if !known || !x.note.Kept {
		return os.ErrNotExist
	}
	x.exit = exit
	close(x.ended)
	return nil
}
