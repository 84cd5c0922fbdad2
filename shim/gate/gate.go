// Package gate stands between a sandbox that is made and its first instruction: no
// program starts before its network policy is bound, read back and compared.
//
// It believes the kernel, not names. The network namespace in question is the one
// that the sentry is in; each link in it must be the other end of a link in the
// node's transit namespace, seen from both sides, whose alias names this very
// namespace. Who else may be there is decided by what was asked for: with brig's
// annotations a foreign link is an error that names the remedy, without any it is its
// maker's business, unless the configuration forbids that.
//
// A policy belongs to the namespace: one that is bound already is verified, never
// replaced. A namespace belongs to one sentry: whoever passes the gate claims it, and
// the claim ends with the sentry's process. Everything happens under the node's
// network lock, so two starts cannot pass each other.
//
// Others can put a link into the namespace at any time, also between the gate's look
// and runsc's, and a sentry that was taken over sends on every link that is there. So
// a namespace that is policed is watched for as long as its sentry lives.
//
// "The host" is the network namespace of the calling process.
package gate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/containerd/errdefs"

	"brig/internal/config"
	"brig/internal/netns"
	"brig/internal/netpolicy"
	"brig/internal/transit"
)

// Request names the sandbox that is about to start.
type Request struct {
	Namespace, ID string            // containerd's
	SentryPID     int               // of the sentry, whose program waits
	Annotations   map[string]string // of the container
	BlockNetwork  bool              // what Plan said
	// Waiting: nothing untrusted runs in the sandbox yet. Its links have to be ours and
	// none may have a policy; nothing is bound, and the annotations do not count. With
	// Intruded it is watched all the same: its kernel has read what is untrusted.
	Waiting bool

	// Intruded is told, at most once, why a sandbox that passed has to end: a link
	// came into its namespace later, and packets could go round the policy. It is told
	// nothing of a sandbox that is not policed. nil: nobody watches.
	Intruded func(error)
	// Gone is closed when the sentry has ended, and ends the watch.
	Gone <-chan struct{}
}

// wish is what the annotations ask for.
type wish struct {
	policy netpolicy.Policy
	given  bool // there was a network annotation
	list   bool // an allowlist was among them
	ruled  bool // the operator has a default or a ceiling
}

func parse(annotations map[string]string, cfg *config.Config) (wish, error) {
	spec, given, err := netpolicy.SpecFromAnnotations(annotations)
	if err != nil {
		return wish{}, invalid(err)
	}
	ceiling, err := cfg.Network.PolicyCeiling()
	if err != nil {
		return wish{}, err
	}
	policy, err := netpolicy.Compile(spec, ceiling)
	if err != nil {
		return wish{}, invalid(err)
	}
	list := spec.CIDRAllowlist != nil || spec.DomainAllowlist != nil || spec.InboundCIDRAllowlist != nil
	ruled := ceiling.Default != nil || ceiling.Max != nil
	return wish{policy: policy, given: given, list: list, ruled: ruled}, nil
}

// invalid keeps the one line that says what to write instead.
func invalid(err error) error {
	return errdefs.ErrInvalidArgument.WithMessage(err.Error())
}

func refuse(format string, args ...any) error {
	return errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf(format, args...))
}

// Plan tells, before anything is made, whether the sandbox boots without a network,
// and refuses annotations that could not be honoured.
func Plan(annotations map[string]string, cfg *config.Config) (block bool, err error) {
	w, err := parse(annotations, cfg)
	return w.policy.Blocked() && err == nil, err
}

// Check returns nil once the sandbox's network is what its annotations say, proven
// by what the kernel answers, and an error whenever that is in doubt.
func Check(ctx context.Context, cfg *config.Config, r Request) error {
	if r.Waiting {
		return wait(ctx, cfg, r)
	}
	w, err := parse(r.Annotations, cfg)
	if err != nil {
		return err
	}
	if w.policy.Blocked() != r.BlockNetwork {
		return refuse("the annotations of the container changed since it was made")
	}
	ns, err := openNamespace(r.SentryPID)
	if err != nil {
		return err
	}
	// Links that come while the gate looks are told of, too.
	watch, err := ns.watch(cfg, r)
	if err != nil {
		return errors.Join(err, ns.Close())
	}
	policed, err := examine(ctx, cfg, r, w, ns)
	if err != nil || !policed || r.Intruded == nil {
		watch.end()
		return err
	}
	go watch.run(context.WithoutCancel(ctx))
	return nil
}

// examine tells, of a namespace that may be started in, whether a foreign link in it
// would go round a policy.
func examine(ctx context.Context, cfg *config.Config, r Request, w wish, ns *namespace) (policed bool, err error) {
	if err := errors.Join(ns.refuseReserved(cfg), ns.notNeighbours(cfg)); err != nil {
		return false, err
	}
	if r.BlockNetwork {
		return true, blocked(ctx, cfg, ns)
	}
	// Without a link there is nothing to bind, so the node's network is left alone.
	all, err := ns.links(nil)
	if err != nil {
		return false, err
	}
	policed = w.given || w.ruled || cfg.Network.Unmanaged != "allow"
	if len(all.foreign) == 0 {
		err = alone(w)
	} else {
		err = locked(ctx, cfg, func(ctx context.Context, node *transit.Node) error {
			ours, err := check(ctx, cfg, node, r, w, ns)
			policed = policed || ours
			return err
		})
	}
	if err != nil {
		return false, err
	}
	return policed, ns.raiseLoopback()
}

// alone is for a sandbox that has no interface but loopback.
func alone(w wish) error {
	if w.list {
		return refuse("the sandbox has no network on which its annotations could be enforced: start it with `ctr run --cni` under brig's CNI list, or with `brig create`")
	}
	return nil
}

// blocked is for a sandbox whose namespace runsc made, empty, and whose sentry uses no
// link. `ctr run --cni` attaches it there all the same: what is there must be ours,
// and without a policy, which is closed.
func blocked(ctx context.Context, cfg *config.Config, ns *namespace) error {
	inside, err := ns.inside(nil)
	if err != nil {
		return fmt.Errorf("list the sandbox's interfaces: %w", err)
	}
	if len(inside) == 0 {
		return nil
	}
	return locked(ctx, cfg, func(ctx context.Context, node *transit.Node) error {
		found, err := ns.links(node)
		if err != nil {
			return err
		}
		if len(found.foreign) > 0 {
			return refuse("interface %s is in the network namespace of a sandbox that was to have no network: start it without one (`nerdctl run --network none`)", found.foreign[0])
		}
		for _, link := range found.ours {
			s, err := node.Seat(link)
			if err != nil {
				return err
			}
			if g := s.InForce(transit.Now()); g != nil && !g.Policy.Blocked() {
				return refuse("the sandbox was to have no network, and its namespace has a policy in force (%s): make a new one", g.Policy)
			}
			if err := node.Confirm(link); err != nil {
				return err
			}
		}
		return nil
	})
}

// locked runs fn with the node's network if it has one: where there is none, no link
// can be one of its own, and looking does not make it.
func locked(ctx context.Context, cfg *config.Config, fn func(context.Context, *transit.Node) error) error {
	if !netns.Exists(cfg.TransitName()) {
		return transit.Locked(ctx, cfg, func(ctx context.Context) error { return fn(ctx, nil) })
	}
	return transit.With(ctx, cfg, func(ctx context.Context, node transit.Node) error { return fn(ctx, &node) })
}

// check tells whether the links are the node's.
func check(ctx context.Context, cfg *config.Config, node *transit.Node, r Request, w wish, ns *namespace) (ours bool, err error) {
	found, err := ns.links(node)
	if err != nil {
		return false, err
	}
	if len(found.ours)+len(found.foreign) == 0 {
		return false, alone(w)
	}
	if err := claim(cfg, r, ns.inode); err != nil {
		return false, err
	}
	if len(found.foreign) > 0 {
		return false, unmanaged(ctx, cfg, r, w, found)
	}
	if len(w.policy.Names()) > 0 {
		if err := namesServed(cfg); err != nil {
			return false, err
		}
	}
	return true, bind(node, w, found.ours)
}

// bind puts the wish in force on every link, or verifies what is in force where the
// namespace has a policy. A container that says nothing joins whatever policy is there.
// A link that came after the policy stays closed: to bind it now would bring back what
// the policy may have been changed from.
func bind(node *transit.Node, w wish, links []string) error {
	first, err := firstPolicy(node, links)
	if err != nil {
		return err
	}
	if first != "" && first != w.policy.Sum() && (w.given || w.ruled) {
		return refuse("the sandbox's network namespace has another policy in force already: make a new one, or annotate the container alike")
	}
	for _, link := range links {
		if first == "" {
			_, err = node.Bind(link, w.policy)
		} else {
			err = node.Confirm(link)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// firstPolicy is the sum of the policy that a namespace with these links was made with;
// "": it has none yet.
func firstPolicy(node *transit.Node, links []string) (first string, err error) {
	for _, link := range links {
		s, err := node.Seat(link)
		if err != nil {
			return "", err
		}
		if first != "" && s.First != "" && s.First != first {
			return "", refuse("the interfaces of the sandbox's network namespace have another policy in force already than each other: make a new one")
		}
		first = cmp.Or(first, s.First)
	}
	return first, nil
}

func unmanaged(ctx context.Context, cfg *config.Config, r Request, w wish, found links) error {
	link := found.foreign[0]
	switch {
	case w.given:
		return refuse("interface %s of the sandbox is not of brig's network, so its annotations cannot be enforced: use brig's CNI list (`ctr run --cni`, `nerdctl run --network brig`), or remove the annotations", link)
	case len(found.ours) > 0:
		return refuse("interface %s of the sandbox is not of brig's network, but others are: its packets would go round their policy; remove one or the other", link)
	case w.ruled:
		return refuse("interface %s of the sandbox is not of brig's network, so the policy in the configuration (network.default, network.ceiling) cannot be enforced: use brig's CNI list", link)
	case cfg.Network.Unmanaged != "allow":
		return refuse("interface %s of the sandbox is not of brig's network, and network.unmanaged in the configuration refuses that: use brig's CNI list", link)
	}
	slog.WarnContext(ctx, "network is not brig's and not policed", "component", "gate", "sandbox", r.ID, "interface", link)
	return nil
}

// Release ends the sandbox's claim on its namespace. Only tidiness depends on it: a
// claim is void once its sentry has ended.
func Release(ctx context.Context, cfg *config.Config, namespace, id string) error {
	if _, err := os.Stat(claimsDir(cfg)); os.IsNotExist(err) {
		return nil
	}
	return transit.Locked(ctx, cfg, func(context.Context) error { return release(cfg, namespace, id) })
}
