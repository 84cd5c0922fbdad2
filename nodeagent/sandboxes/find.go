package sandboxes

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/containerd/errdefs"

	"brig/internal/sandbox"
	"brig/nodeagent/record"
)

// root sees everybody's sandboxes.
const root = 0

// Find returns the sandbox of that id, or the live one of that name, if uid may see
// it. To others it is as if there were none.
func (m *Manager) Find(uid uint32, ref string) (record.Record, error) {
	none := errdefs.ErrNotFound.WithMessage(fmt.Sprintf("there is no sandbox %.100q: list yours to find its id", ref))
	if ref == "" {
		return record.Record{}, errdefs.ErrInvalidArgument.WithMessage("sandbox is missing: give an id, or the name of a running one")
	}
	if id, err := sandbox.ParseID(ref); err == nil {
		rec, err := m.store.Get(id)
		if errdefs.IsNotFound(err) || err == nil && !visible(uid, &rec) {
			return record.Record{}, none
		}
		return rec, err
	}
	all, err := m.store.All()
	if err != nil {
		return record.Record{}, err
	}
	all = slices.DeleteFunc(all, func(r record.Record) bool {
		return r.Request.Name != ref || !r.Live() || !visible(uid, &r)
	})
	if i := slices.IndexFunc(all, func(r record.Record) bool { return r.Owner == uid }); i >= 0 {
		return all[i], nil
	}
	switch len(all) {
	case 0:
		return record.Record{}, none
	case 1:
		return all[0], nil
	}
	return record.Record{}, errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf("several owners have a sandbox %q: give its id", ref))
}

// List returns the sandboxes that uid may see and that have all the tags, oldest
// first; ended ones too if all is set.
func (m *Manager) List(uid uint32, tags map[string]string, all bool) ([]record.Record, error) {
	list, err := m.store.All()
	if err != nil {
		return nil, err
	}
	list = slices.DeleteFunc(list, func(r record.Record) bool {
		return !visible(uid, &r) || !all && !r.Live() || !tagged(&r, tags)
	})
	slices.SortFunc(list, func(a, b record.Record) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	return list, nil
}

func visible(uid uint32, r *record.Record) bool { return uid == root || uid == r.Owner }

func tagged(r *record.Record, tags map[string]string) bool {
	for k, v := range tags {
		if has, ok := r.Request.Tags[k]; !ok || has != v {
			return false
		}
	}
	return true
}

// running returns the keeper of a sandbox that runs.
func (m *Manager) running(id sandbox.ID) (*keeper, error) {
	k := m.keeper(id)
	if k == nil || isClosed(k.ended) {
		return nil, notRunning(id)
	}
	if !isClosed(k.ready) {
		return nil, errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf("sandbox %s is still being made: wait for its create", id))
	}
	return k, nil
}

func notRunning(id sandbox.ID) error {
	return errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf("sandbox %s has ended: create another one", id))
}
