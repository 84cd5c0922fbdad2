package sandboxes

import (
	"context"

	"brig/internal/sandbox"
	"brig/nodeagent/gpus"
	"brig/nodeagent/metrics"
	"brig/nodeagent/record"
)

// GPUs are those of the node.
type GPUs interface {
	// Known is what is known of them now.
	Known() gpus.Inventory
	// Inventory waits until something is known.
	Inventory(ctx context.Context) (gpus.Inventory, error)
	// Check is an ErrFailedPrecondition unless a sandbox made now could use the GPUs whose
	// device nodes have these minor numbers.
	Check(ctx context.Context, minors []int) error
}

// allot chooses the GPUs of a new sandbox before its intent is on record, so that the
// intent names them: from then on the record says whose they are.
func (m *Manager) allot(ctx context.Context, rec record.Record) (uuids []string, err error) {
	if rec.Request.GPU == nil {
		return nil, nil
	}
	found, err := m.gpus.Inventory(ctx)
	if err != nil {
		return nil, err
	}
	if uuids, err = m.allotments.Take(rec.ID, rec.Request.GPU, found); err != nil {
		return nil, err
	}
	minors, err := found.Minors(uuids)
	if err == nil {
		err = m.gpus.Check(ctx, minors)
	}
	if err != nil {
		m.allotments.Return(rec.ID)
		return nil, err
	}
	m.log.Info("GPUs allotted", "sandbox", rec.ID, "owner", rec.Owner, "gpus", uuids)
	return uuids, nil
}

// returnGPUs comes when nothing of the sandbox is left that could use them.
func (m *Manager) returnGPUs(id sandbox.ID) {
	if had := m.allotments.Return(id); len(had) > 0 {
		m.log.Info("GPUs returned", "sandbox", id, "gpus", had)
	}
}

// GPU is one of the node's, as a caller may see it.
type GPU struct {
	gpus.GPU
	// Free: it can be asked for.
	Free bool
	// Sandboxes that have it, of those that the caller may see.
	Sandboxes []sandbox.ID
}

// GPUsFor lists the node's GPUs for a uid.
func (m *Manager) GPUsFor(uid uint32) (gpus.Inventory, []GPU) {
	known, owners := m.gpus.Known(), m.allotments.Owners()
	list := make([]GPU, len(known.GPUs))
	for i, g := range known.GPUs {
		has := owners[g.UUID]
		list[i] = GPU{GPU: g, Free: known.Unavailable == "" && g.Impediment() == "" && (m.cfg.GPU.Shared || len(has) == 0)}
		for _, id := range has {
			if rec, err := m.store.Get(id); uid == root || err == nil && visible(uid, &rec) {
				list[i].Sandboxes = append(list[i].Sandboxes, id)
			}
		}
	}
	return known, list
}

// GPUStates counts the node's GPUs.
func (m *Manager) GPUStates() (s metrics.GPUs) {
	known, owners := m.gpus.Known(), m.allotments.Owners()
	for _, g := range known.GPUs {
		switch {
		case len(owners[g.UUID]) > 0:
			s.Allotted++
		case known.Unavailable != "" || g.Impediment() != "":
			s.Unusable++
		default:
			s.Free++
		}
	}
	return s
}
