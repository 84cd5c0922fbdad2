package nft

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"brig/internal/netpolicy"
)

// Identify binds a link to its MAC and address and to no policy: deny. It replaces
// what was bound to that link before.
func (n Namespace) Identify(ctx context.Context, b Binding) error {
	s, err := n.Read(ctx)
	if err != nil {
		return err
	}
	if err := s.CheckBase(); err != nil {
		return err
	}
	if err := n.Apply(ctx, s.renderUnbind(b.Link)+renderIdentity("add", b)); err != nil {
		return fmt.Errorf("bind %s: %w", b.Link, err)
	}
	if s, err = n.Read(ctx); err != nil {
		return err
	}
	return s.verifyIdentity(b)
}

// Bind puts policy in force for a link that has an identity, and returns once the
// kernel's rules were read back and found to be exactly that. A link whose policy is
// a block stays in deny.
func (n Namespace) Bind(ctx context.Context, link string, policy netpolicy.Policy) error {
	s, err := n.Read(ctx)
	if err != nil {
		return err
	}
	if err := s.CheckBase(); err != nil {
		return err
	}
	if !s.identified(link) {
		return fmt.Errorf("bind policy %s: link %s has no identity in the transit rule set", policy, link)
	}
	if s.Verify(link, policy) == nil {
		return nil
	}
	if err := n.Apply(ctx, s.renderBind(link, policy)); err != nil {
		return fmt.Errorf("bind policy %s to %s: %w", policy, link, err)
	}
	if s, err = n.Read(ctx); err != nil {
		return err
	}
	if err := s.Verify(link, policy); err != nil {
		return err
	}
	return n.sweep(ctx, s) // of the policy that this one replaced
}

func (n Namespace) sweep(ctx context.Context, s *State) error {
	text := s.renderSweep()
	if text == "" {
		return nil
	}
	if err := n.Apply(ctx, text); err != nil {
		return fmt.Errorf("remove policies that no link has: %w", err)
	}
	return nil
}

// Unbind takes a link's identity and policy away, and the policy itself if nobody
// else has it. A link that is not bound is no error.
func (n Namespace) Unbind(ctx context.Context, link string) error {
	s, err := n.Read(ctx)
	if errors.Is(err, ErrNoRules) {
		return nil
	}
	if err != nil {
		return err
	}
	text := s.renderUnbind(link)
	delete(s.egress, link)
	delete(s.ingress, link)
	text += s.renderSweep()
	if text == "" {
		return nil
	}
	if err := n.Apply(ctx, text); err != nil {
		return fmt.Errorf("unbind %s: %w", link, err)
	}
	return nil
}

func renderIdentity(verb string, b Binding) string {
	return fmt.Sprintf("%s element inet brig bind4 { %q . %s . %s }\n", verb, b.Link, b.MAC, b.Addr)
}

// renderUnbind removes what is there, and names nothing that is not: one missing
// element would fail the whole transaction.
func (s *State) renderUnbind(link string) string {
	var text strings.Builder
	text.WriteString(s.renderUnbindPolicy(link))
	for _, b := range s.bind {
		if b.Link == link {
			text.WriteString(renderIdentity("delete", b))
		}
	}
	return text.String()
}

func (s *State) renderUnbindPolicy(link string) string {
	var text strings.Builder
	if _, ok := s.egress[link]; ok {
		fmt.Fprintf(&text, "delete element inet brig egress { %q }\n", link)
	}
	if _, ok := s.ingress[link]; ok {
		fmt.Fprintf(&text, "delete element inet brig ingress { %q }\n", link)
	}
	if slices.Contains(s.dns, link) {
		fmt.Fprintf(&text, "delete element inet brig dns4 { %q }\n", link)
	}
	return text.String()
}

// renderBind replaces the link's policy in one transaction.
func (s *State) renderBind(link string, policy netpolicy.Policy) string {
	text := s.renderUnbindPolicy(link)
	if policy.Blocked() {
		return text
	}
	if s.verifyPolicy(policy) != nil {
		text += RenderPolicy(policy)
	}
	out, in := chainNames(policy)
	text += fmt.Sprintf("add element inet brig egress { %q : goto %s }\n", link, out)
	text += fmt.Sprintf("add element inet brig ingress { %q : goto %s }\n", link, in)
	if policy.DNS() != netpolicy.DNSOff {
		text += fmt.Sprintf("add element inet brig dns4 { %q }\n", link)
	}
	return text
}

// perLine keeps lines of a rule set readable and nft's parser fast.
const perLine = 500

// RenderPolicy makes, or makes anew, the set and the chains of a policy.
func RenderPolicy(policy netpolicy.Policy) string {
	if policy.IsOpen() || policy.Blocked() {
		return ""
	}
	out, in := chainNames(policy)
	set := setName(policy)
	var text strings.Builder
	fmt.Fprintf(&text, "add set inet brig %s { type ipv4_addr; flags interval; }\nflush set inet brig %s\n", set, set)
	for part := range slices.Chunk(rangeTexts(v4(policy.Ranges())), perLine) {
		fmt.Fprintf(&text, "add element inet brig %s { %s }\n", set, strings.Join(part, ", "))
	}
	fmt.Fprintf(&text, "add chain inet brig %s\nflush chain inet brig %s\n", out, out)
	fmt.Fprintf(&text, "add rule inet brig %s ip daddr @%s accept\nadd rule inet brig %s goto refuse\n", out, set, out)
	fmt.Fprintf(&text, "add chain inet brig %s\nflush chain inet brig %s\n", in, in)
	fmt.Fprintf(&text, "add rule inet brig %s ip saddr @%s accept\nadd rule inet brig %s drop\n", in, set, in)
	return text.String()
}

// chainNames of a policy: its hash in full, so that two never meet in one name.
func chainNames(p netpolicy.Policy) (out, in string) {
	if p.IsOpen() {
		return "out_open", "in_open"
	}
	return "out_" + p.Hash(), "in_" + p.Hash()
}

func setName(p netpolicy.Policy) string { return "cidr_" + p.Hash() }

// renderSweep removes policies that no link has. Chains go before the sets that
// they look into.
func (s *State) renderSweep() string {
	var chains, sets strings.Builder
	for _, name := range sortedKeys(s.chains) {
		hash, ok := strings.CutPrefix(name, "out_")
		if !ok || hash == "open" || s.refersTo(name) {
			continue
		}
		fmt.Fprintf(&chains, "delete chain inet brig %s\n", name)
		if _, ok := s.chains["in_"+hash]; ok {
			fmt.Fprintf(&chains, "delete chain inet brig in_%s\n", hash)
		}
		if _, ok := s.ranges["cidr_"+hash]; ok {
			fmt.Fprintf(&sets, "delete set inet brig cidr_%s\n", hash)
		}
	}
	return chains.String() + sets.String()
}

func (s *State) refersTo(chain string) bool {
	for _, bound := range s.egress {
		if bound == chain {
			return true
		}
	}
	return false
}
