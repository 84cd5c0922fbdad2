package record

import (
	"time"

	"brig/internal/netpolicy"
	"brig/nodeagent/standing"
)

// Written is a policy as its writer wrote it, with what it was compiled to: in the
// kernel and on the node's record is only that.
type Written struct {
	Spec netpolicy.Spec `json:"spec"`
	// Sum of the policy that Spec was compiled to.
	Sum string `json:"sum"`
	// Generation; 0: it is being put in force, and may or may not be.
	Generation uint64 `json:"generation"`
	// Until is when a lease ends, on the clock of Boot; 0: for good.
	Until time.Duration `json:"until,omitempty"`
	Boot  string        `json:"boot,omitempty"`
}

// Writing puts a policy on record that is about to be put in force.
func (r *Record) Writing(spec netpolicy.Spec, policy netpolicy.Policy) {
	kept := r.Policies[:0:0]
	for _, w := range r.Policies {
		if w.Generation != 0 {
			kept = append(kept, w)
		}
	}
	r.Policies = append(kept, Written{Spec: spec, Sum: policy.Sum()})
}

// Stands brings the record in line with what stands: it keeps the specs of that and no
// others, what is for good first.
func (r *Record) Stands(s standing.Standing, boot string) {
	var kept []Written
	if s.Grant != nil {
		kept = append(kept, r.written(*s.Grant))
	}
	if s.Lease != nil {
		w := r.written(s.Lease.Grant)
		w.Until, w.Boot = s.Lease.Until, boot
		kept = append(kept, w)
	}
	r.Policies = kept
}

// Spec of a policy that stands, as it was written if that is known.
func (r *Record) Spec(g standing.Grant) netpolicy.Spec { return r.written(g).Spec }

func (r *Record) written(g standing.Grant) Written {
	sum := g.Policy.Sum()
	found := -1
	for i, w := range r.Policies {
		// The same policy may have been written in several ways.
		if w.Sum == sum && (found < 0 || w.Generation == g.Generation || w.Generation == 0) {
			found = i
		}
	}
	w := Written{Sum: sum}
	switch {
	case found >= 0:
		w.Spec = r.Policies[found].Spec
	default:
		w.Spec = SpecOf(g.Policy) // somebody else put it in force
	}
	w.Generation = g.Generation
	return w
}

// Policy returns what was last known to be in force at a time of the boot's clock.
func (r *Record) Policy(now time.Duration, boot string) (netpolicy.Spec, uint64) {
	spec, generation := r.Request.Network, uint64(0)
	for _, w := range r.Policies {
		if w.Generation != 0 && (w.Until == 0 || w.Boot == boot && now < w.Until) {
			spec, generation = w.Spec, w.Generation
		}
	}
	return spec, generation
}
