package nft

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"brig/internal/netpolicy"
)

// ErrNoRules is the answer of Read where there is no rule set.
var ErrNoRules = errors.New("the transit namespace has no rule set")

// Binding is who a sandbox is on the wire.
type Binding struct {
	Link string     // in the transit namespace
	MAC  string     // as net.HardwareAddr writes it
	Addr netip.Addr // IPv4
}

// State is the transit rule set as the kernel has it.
type State struct {
	chains  map[string]chain
	bind    []Binding
	dns     []string                     // links
	egress  map[string]string            // link → chain
	ingress map[string]string            //
	ranges  map[string][]netpolicy.Range // set → its ranges
	node    []netip.Addr
}

type chain struct {
	hook, policy string
	rules        []string // without handles and counters
}

// Read the transit rule set back from the kernel.
func (n Namespace) Read(ctx context.Context) (*State, error) {
	out, err := n.run(ctx, "", "-j", "list", "table", "inet", "brig")
	if err != nil {
		var failed *Error
		if errors.As(err, &failed) && strings.Contains(failed.Message, "No such file or directory") {
			return nil, ErrNoRules
		}
		return nil, fmt.Errorf("read the rule set: %w", err)
	}
	s, err := parseState(out)
	if err != nil {
		return nil, fmt.Errorf("read the rule set: %w", err)
	}
	return s, nil
}

type object struct {
	Chain *struct{ Name, Hook, Policy string }
	Rule  *struct {
		Chain string
		Expr  []map[string]json.RawMessage
	}
	Set *setObject
	Map *setObject
}

type setObject struct {
	Name string
	Elem []json.RawMessage
}

func parseState(data []byte) (*State, error) {
	var listing struct{ Nftables []object }
	if err := json.Unmarshal(data, &listing); err != nil {
		return nil, err
	}
	s := &State{chains: map[string]chain{}, egress: map[string]string{}, ingress: map[string]string{}, ranges: map[string][]netpolicy.Range{}}
	for _, o := range listing.Nftables {
		if err := s.add(o); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *State) add(o object) error {
	switch {
	case o.Chain != nil:
		s.chains[o.Chain.Name] = chain{hook: o.Chain.Hook, policy: o.Chain.Policy}
	case o.Rule != nil:
		c := s.chains[o.Rule.Chain]
		c.rules = append(c.rules, ruleText(o.Rule.Expr))
		s.chains[o.Rule.Chain] = c
	case o.Set != nil:
		return s.addSet(o.Set)
	case o.Map != nil:
		return s.addMap(o.Map)
	}
	return nil
}

// ruleText is a rule as JSON without its counters, whose keys encoding/json sorts.
func ruleText(exprs []map[string]json.RawMessage) string {
	var parts []string
	for _, e := range exprs {
		for key, value := range e {
			if key == "counter" {
				continue
			}
			var v any
			if json.Unmarshal(value, &v) != nil {
				v = string(value)
			}
			text, err := json.Marshal(v)
			if err != nil {
				text = value
			}
			parts = append(parts, key+" "+string(text))
		}
	}
	return strings.Join(parts, "; ")
}

func (s *State) addSet(set *setObject) error {
	for _, e := range set.Elem {
		var err error
		switch set.Name {
		case "bind4":
			err = s.addBinding(e)
		case "dns4":
			err = appendText(&s.dns, e)
		case "node4":
			var r netpolicy.Range
			r, err = parseElement(e)
			s.node = append(s.node, r.From)
		default:
			var r netpolicy.Range
			r, err = parseElement(e)
			s.ranges[set.Name] = append(s.ranges[set.Name], r)
		}
		if err != nil {
			return fmt.Errorf("set %s: element %s: %w", set.Name, e, err)
		}
	}
	if _, ok := s.ranges[set.Name]; !ok {
		s.ranges[set.Name] = nil // it is there, and empty
	}
	return nil
}

func (s *State) addBinding(e json.RawMessage) error {
	var fields struct{ Concat []string }
	if err := json.Unmarshal(e, &fields); err != nil || len(fields.Concat) != 3 {
		return errors.New("not link, MAC and address")
	}
	addr, err := netip.ParseAddr(fields.Concat[2])
	s.bind = append(s.bind, Binding{Link: fields.Concat[0], MAC: fields.Concat[1], Addr: addr})
	return err
}

func appendText(list *[]string, e json.RawMessage) error {
	var text string
	err := json.Unmarshal(e, &text)
	*list = append(*list, text)
	return err
}

func (s *State) addMap(m *setObject) error {
	entries := map[string]map[string]string{"egress": s.egress, "ingress": s.ingress}[m.Name]
	if entries == nil {
		return fmt.Errorf("map %s is not ours", m.Name)
	}
	for _, e := range m.Elem {
		var pair []json.RawMessage
		var link string
		var verdict struct{ Goto struct{ Target string } }
		if err := json.Unmarshal(e, &pair); err != nil || len(pair) != 2 {
			return fmt.Errorf("map %s: element %s", m.Name, e)
		}
		if err := errors.Join(json.Unmarshal(pair[0], &link), json.Unmarshal(pair[1], &verdict)); err != nil {
			return fmt.Errorf("map %s: element %s: %w", m.Name, e, err)
		}
		entries[link] = verdict.Goto.Target
	}
	return nil
}

// parseElement of an interval set: an address, a range or a prefix.
func parseElement(e json.RawMessage) (netpolicy.Range, error) {
	var single string
	if json.Unmarshal(e, &single) == nil {
		return parseEnds(single, single)
	}
	var fields struct {
		Range  []string
		Prefix *struct {
			Addr string
			Len  int
		}
	}
	if err := json.Unmarshal(e, &fields); err != nil {
		return netpolicy.Range{}, err
	}
	switch {
	case len(fields.Range) == 2:
		return parseEnds(fields.Range[0], fields.Range[1])
	case fields.Prefix != nil:
		addr, err := netip.ParseAddr(fields.Prefix.Addr)
		if err != nil || !addr.Is4() || fields.Prefix.Len < 0 || fields.Prefix.Len > 32 {
			return netpolicy.Range{}, errors.New("not an IPv4 prefix")
		}
		return netpolicy.RangeOf(netip.PrefixFrom(addr, fields.Prefix.Len)), nil
	}
	return netpolicy.Range{}, errors.New("not an address, range or prefix")
}

func parseEnds(from, to string) (netpolicy.Range, error) {
	return netpolicy.ParseRange(from + "-" + to)
}

// baseChains that must be there, each with its hook and the number of its rules; a
// hooked one that does not drop says so.
var baseChains = map[string]struct {
	hook, policy string
	rules        int
}{
	"refuse":       {"", "", 2},
	"out_open":     {"", "", 2},
	"in_open":      {"", "", 2},
	"from_sandbox": {"", "", 4},
	"to_sandbox":   {"", "", 5},
	"identity":     {"prerouting", "accept", 4},
	"input":        {"input", "drop", 5},
	"output":       {"output", "drop", 4},
	"forward":      {"forward", "drop", 4},
}

// CheckBase tells what of the base is missing or has been changed.
func (s *State) CheckBase() error {
	for name, want := range baseChains {
		got, ok := s.chains[name]
		if !ok || got.hook != want.hook || got.policy != want.policy || len(got.rules) != want.rules {
			return fmt.Errorf("chain %s of the transit rule set is not as it was loaded", name)
		}
	}
	if !slices.Equal(netpolicy.Normalise(s.ranges["never4"]), v4(netpolicy.Never())) {
		return errors.New("set never4 of the transit rule set is not as it was loaded")
	}
	return nil
}

// Node are the node's own addresses, sorted.
func (s *State) Node() []netip.Addr {
	return slices.SortedFunc(slices.Values(s.node), netip.Addr.Compare)
}

// Links are all that have an identity, with it.
func (s *State) Links() []Binding { return s.bind }

// Bound tells which chain's policy the link has; "" is deny.
func (s *State) Bound(link string) string { return s.egress[link] }
