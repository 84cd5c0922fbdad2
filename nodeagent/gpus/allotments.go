package gpus

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/containerd/errdefs"

	"brig/internal/sandbox"
	"brig/nodeagent/record"
)

// Allotments are who has which GPU, in memory alone. What there is already is said with
// Hold when brigd starts; what is new is chosen with Take. Two creates at once cannot both
// have the last one.
type Allotments struct {
	shared bool

	mu  sync.Mutex // guards what follows
	has map[sandbox.ID][]string
}

// NewAllotments returns those of a node on which nobody has any; shared lets several
// sandboxes have one GPU.
func NewAllotments(shared bool) *Allotments {
	return &Allotments{shared: shared, has: map[sandbox.ID][]string{}}
}

// Hold says that a sandbox has these, by UUID.
func (a *Allotments) Hold(id sandbox.ID, uuids []string) {
	if len(uuids) == 0 {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.has[id] = uuids
}

// Return says that nothing of a sandbox is left, and tells what it had.
func (a *Allotments) Return(id sandbox.ID) []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	had := a.has[id]
	delete(a.has, id)
	return had
}

// Owners are the sandboxes that have a GPU, by its UUID, each list sorted.
func (a *Allotments) Owners() map[string][]sandbox.ID {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.owners()
}

// owners is called under mu.
func (a *Allotments) owners() map[string][]sandbox.ID {
	owners := map[string][]sandbox.ID{}
	for _, id := range slices.Sorted(maps.Keys(a.has)) {
		for _, uuid := range a.has[id] {
			owners[uuid] = append(owners[uuid], id)
		}
	}
	return owners
}

// Take chooses what a sandbox asks for, of what the node has, and returns the UUIDs,
// sorted. Errors: ErrNotFound (no such GPU), ErrResourceExhausted (others have it),
// ErrFailedPrecondition (the node cannot give it), ErrInvalidArgument (one asked for twice).
func (a *Allotments) Take(id sandbox.ID, r *record.GPURequest, i Inventory) ([]string, error) {
	if i.Unavailable != "" {
		return nil, errdefs.ErrFailedPrecondition.WithMessage("this node has no GPUs: " + i.Unavailable)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	c := choice{Inventory: i, owners: a.owners(), shared: a.shared}
	var chosen []string
	var err error
	if r.Count > 0 {
		chosen, err = c.some(int(r.Count))
	} else {
		chosen, err = c.these(r.Devices)
	}
	if err != nil {
		return nil, err
	}
	slices.Sort(chosen)
	a.has[id] = chosen
	return chosen, nil
}

// choice is one look at who has what.
type choice struct {
	Inventory
	owners map[string][]sandbox.ID
	shared bool
}

// free tells whether g can be given now.
func (c choice) free(g GPU) bool {
	return g.Impediment() == "" && (c.shared || len(c.owners[g.UUID]) == 0)
}

// state is how many can be given now, of how many that could be given at all.
func (c choice) state() (free, all int) {
	for _, g := range c.GPUs {
		if g.Impediment() == "" {
			all++
		}
		if c.free(g) {
			free++
		}
	}
	return free, all
}

// some chooses those that fewest have, and of them the first: neighbours are wired to one
// another more often than not.
func (c choice) some(count int) (uuids []string, err error) {
	free, all := c.state()
	if count > all {
		return nil, errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf("%d GPUs are asked for, and this node has %d that it can give: ask for fewer", count, all))
	}
	if count > free {
		return nil, errdefs.ErrResourceExhausted.WithMessage(fmt.Sprintf("%d GPUs are asked for, and %d of %d are free: ask for fewer, or wait for a sandbox to end", count, free, all))
	}
	list := slices.Clone(c.GPUs)
	slices.SortStableFunc(list, func(x, y GPU) int { return cmp.Compare(len(c.owners[x.UUID]), len(c.owners[y.UUID])) })
	for _, g := range list {
		if c.free(g) && len(uuids) < count {
			uuids = append(uuids, g.UUID)
		}
	}
	return uuids, nil
}

// these are the GPUs of those names.
func (c choice) these(names []string) (uuids []string, err error) {
	for _, name := range names {
		g, err := c.find(name)
		if err != nil {
			return nil, err
		}
		switch why := g.Impediment(); {
		case why != "":
			return nil, errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf("GPU %s cannot be given: %s", name, why))
		case slices.Contains(uuids, g.UUID):
			return nil, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("GPU %s is asked for twice, by another name too", name))
		case !c.free(g):
			free, all := c.state()
			return nil, errdefs.ErrResourceExhausted.WithMessage(fmt.Sprintf("GPU %s belongs to another sandbox, and %d of %d are free: ask for another one, or by count", name, free, all))
		}
		uuids = append(uuids, g.UUID)
	}
	return uuids, nil
}

func (c choice) find(name string) (GPU, error) {
	bare := strings.TrimPrefix(name, record.CDIKind+"=")
	for _, g := range c.GPUs {
		if strconv.Itoa(g.Index) == bare || g.UUID != "" && g.UUID == bare {
			return g, nil
		}
	}
	return GPU{}, errdefs.ErrNotFound.WithMessage(fmt.Sprintf("there is no GPU %s: brig node info lists those of this node", name))
}
