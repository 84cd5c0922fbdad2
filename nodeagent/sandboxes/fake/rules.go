package fake

import (
	"context"
	"fmt"
	"time"

	"github.com/containerd/errdefs"

	"brig/internal/netpolicy"
	"brig/nodeagent/clock"
	"brig/nodeagent/standing"
)

// Link names a sandbox's link.
func (n *Node) Link(id string) string { return "brg-" + id }

// Standing is what Attach and Change left.
func (n *Node) Standing(id string) (standing.Standing, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if s := n.rules[id]; s != nil {
		return *s, nil
	}
	return standing.Standing{}, nil
}

// Differ has Live say that the kernel's rules are not what is on record.
func (n *Node) Differ(difference string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.difference = difference
}

// Live is what stands, and the difference that the test wants.
func (n *Node) Live(_ context.Context, id string) (standing.Live, error) {
	s, err := n.Standing(id)
	n.mu.Lock()
	defer n.mu.Unlock()
	return standing.Live{Standing: s, Difference: n.difference, Addr: n.nets[id]}, err
}

// Change changes what stands. Its failure leaves everything as it was.
func (n *Node) Change(_ context.Context, id string, policy netpolicy.Policy, expected uint64, lease time.Duration) (standing.Standing, error) {
	now, err := clock.Now()
	if err != nil {
		return standing.Standing{}, err
	}
	if err := n.step("change", id); err != nil {
		return standing.Standing{}, err
	}
	defer n.mu.Unlock()
	s := n.rules[id]
	if s == nil {
		return standing.Standing{}, errdefs.ErrFailedPrecondition.WithMessage(id + " has no policy")
	}
	if grant, _ := s.InForce(now); expected != 0 && grant.Generation != expected {
		return standing.Standing{}, errdefs.ErrAborted.WithMessage(fmt.Sprintf("generation %d is in force, not %d", grant.Generation, expected))
	}
	n.generations[id]++
	grant := standing.Grant{Policy: policy, Generation: n.generations[id] + 1}
	if lease == 0 {
		*s = standing.Standing{Grant: &grant}
	} else {
		*s = standing.Standing{Grant: s.Grant, Lease: &standing.Lease{Grant: grant, Until: now + lease}}
	}
	return *s, nil
}

// Impose has another process change the policy.
func (n *Node) Impose(id string, policy netpolicy.Policy, generation uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.rules[id] = &standing.Standing{Grant: &standing.Grant{Policy: policy, Generation: generation}}
}
