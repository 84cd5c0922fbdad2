package nft

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// compare tells the first thing in which the kernel's table of that name is not t:
// chains, rules, sets and elements, none missing, none more, none changed. Only what the
// packet path itself writes is left out: counters, and the elements of dynamic sets.
// partial sets are compared by name and form, not by their elements.
func (r reader) compare(t table, partial ...string) error {
	chains, err := r.chains(t)
	if err != nil {
		return err
	}
	for _, c := range t.chains {
		if err := c.compare(chains[c.name]); err != nil {
			return fmt.Errorf("chain %s %w", c.name, err)
		}
		delete(chains, c.name)
	}
	for name := range chains {
		return fmt.Errorf("chain %s is not brig's", name)
	}
	sets, err := r.sets(t)
	if err != nil {
		return err
	}
	for _, s := range t.sets {
		got, ok := sets[s.name]
		if !ok {
			return fmt.Errorf("set %s is missing", s.name)
		}
		if err := s.compare(got); err != nil {
			return fmt.Errorf("set %s %w", s.name, err)
		}
		delete(sets, s.name)
		if s.dynamic || slices.Contains(partial, s.name) {
			continue
		}
		elements, err := r.elements(t, s.name)
		if err != nil {
			return err
		}
		if err := s.compareElements(elements); err != nil {
			return fmt.Errorf("set %s %w", s.name, err)
		}
	}
	for name := range sets {
		return fmt.Errorf("set %s is not brig's", name)
	}
	return nil
}

func (c chain) compare(got *kernelChain) error {
	if got == nil {
		return errors.New("is missing")
	}
	if (c.hook != nil) != got.hooked {
		return errors.New("is hooked elsewhere")
	}
	if c.hook != nil {
		policy := uint32(nftables.ChainPolicyAccept)
		if c.drop {
			policy = uint32(nftables.ChainPolicyDrop)
		}
		if got.kind != string(c.kind) || got.at != uint32(*c.at) || got.priority != int32(c.priority) || got.policy != policy {
			return errors.New("is hooked elsewhere, or has another policy")
		}
	}
	for i, want := range c.rules {
		if i >= len(got.rules) || !sameExprs(want.exprs(), got.rules[i]) {
			return fmt.Errorf("is not as it was loaded: rule %d is not %q", i+1, want)
		}
	}
	if len(got.rules) > len(c.rules) {
		return fmt.Errorf("has %d rules, not %d", len(got.rules), len(c.rules))
	}
	return nil
}

func sameExprs(a, b []expr.Any) bool {
	return slices.EqualFunc(a, b, func(a, b expr.Any) bool { return reflect.DeepEqual(plain(a), plain(b)) })
}

// plain is the expression without what a transaction or the packet path adds to it.
func plain(e expr.Any) expr.Any {
	switch e := e.(type) {
	case *expr.Counter:
		return &expr.Counter{}
	case *expr.Lookup:
		c := *e
		c.SetID = 0
		return &c
	case *expr.Dynset:
		c := *e
		c.SetID = 0
		c.Exprs = append([]expr.Any{}, c.Exprs...)
		return &c
	case *expr.Log:
		return &expr.Log{Group: e.Group, Data: e.Data}
	}
	return e
}

func (s set) compare(got kernelSet) error {
	var flags uint32
	for flag, on := range map[uint32]bool{
		unix.NFT_SET_INTERVAL: s.interval, unix.NFT_SET_MAP: s.verdict || s.marks, unix.NFT_SET_TIMEOUT: s.expires, unix.NFT_SET_EVAL: s.dynamic,
	} {
		if on {
			flags |= flag
		}
	}
	if got.flags != flags || got.keyLen != s.key.Bytes || got.timeout != s.timeout {
		return fmt.Errorf("has another form (flags %#x, keys of %d bytes, timeout %v)", got.flags, got.keyLen, got.timeout)
	}
	return nil
}

// compareElements compares as sets: the kernel lists in an order of its own.
func (s set) compareElements(got []kernelElement) error {
	want := make([]kernelElement, 0, len(s.elements))
	for _, e := range s.elements {
		k := kernelElement{key: e.key, goTo: e.goTo, mark: e.mark, comment: e.comment}
		if e.accept || e.goTo != "" {
			k.verdict = e.kind()
		}
		want = append(want, k)
		if end, ok := s.end(e); ok {
			want = append(want, kernelElement{key: end.Key, end: true})
		}
	}
	if len(got) != len(want) {
		return fmt.Errorf("has %d elements, not %d", len(got), len(want))
	}
	byKey := func(a, b kernelElement) int { return bytes.Compare(a.key, b.key) }
	slices.SortFunc(got, byKey)
	slices.SortFunc(want, byKey)
	for i := range want {
		g := got[i]
		g.expires = 0
		if !reflect.DeepEqual(g, want[i]) {
			return fmt.Errorf("has an element %x (%s) instead of %x (%s)", g.key, g.goTo, want[i].key, want[i].goTo)
		}
	}
	return nil
}

// kind of an element's verdict, by the kernel's number.
func (e element) kind() int32 {
	if e.accept {
		return int32(expr.VerdictAccept)
	}
	return int32(expr.VerdictGoto)
}
