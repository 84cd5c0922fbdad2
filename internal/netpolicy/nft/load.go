package nft

import (
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
)

// batch is one transaction in the making.
type batch struct {
	*nftables.Conn
	socket *socket
	empty  bool
	failed bool
}

// open a batch in the namespace at path, or the caller's own for "".
func open(path string) (*batch, error) {
	s, err := takeSocket(path, true)
	if err != nil {
		return nil, err
	}
	return &batch{Conn: s.writes, socket: s, empty: true, failed: true}, nil
}

// close gives the batch up, loaded or not.
func (b *batch) close() { putSocket(b.socket, b.failed) }

// commit loads what was put into the batch: all of it or nothing.
func (b *batch) commit() error {
	err := b.Flush()
	b.failed = err != nil
	return err
}

func (t table) kernel() *nftables.Table { return &nftables.Table{Family: t.family, Name: t.name} }

// replace puts t in the place of the table of its name, if there is one, in one step.
func (b *batch) replace(t table) error {
	b.remove(t)
	b.AddTable(t.kernel())
	return b.add(t)
}

// remove t, whether it is there or not.
func (b *batch) remove(t table) {
	b.AddTable(t.kernel())
	b.DelTable(t.kernel())
}

// add what t has to the table of its name: sets first, since rules look into them, then
// all chains, since rules and elements lead to them.
func (b *batch) add(t table) error {
	b.empty = false
	for _, s := range t.sets {
		if err := b.AddSet(s.kernel(t), nil); err != nil {
			return fmt.Errorf("set %s: %w", s.name, err)
		}
	}
	for _, c := range t.chains {
		b.AddChain(c.kernel(t))
	}
	for _, c := range t.chains {
		for _, r := range c.rules {
			b.AddRule(&nftables.Rule{Table: t.kernel(), Chain: c.kernel(t), Exprs: r.exprs()})
		}
	}
	for _, s := range t.sets {
		if err := b.addElements(t, s, s.elements); err != nil {
			return err
		}
	}
	return nil
}

func (b *batch) addElements(t table, s set, elements []element) error {
	for part := range slices.Chunk(elements, perMessage) {
		b.empty = false
		if err := b.SetAddElements(s.kernel(t), s.encode(part)); err != nil {
			return fmt.Errorf("set %s: %w", s.name, err)
		}
	}
	return nil
}

func (b *batch) deleteElements(t table, s set, elements []element) error {
	if len(elements) == 0 {
		return nil
	}
	b.empty = false
	bare := make([]nftables.SetElement, len(elements))
	for i, e := range elements {
		bare[i] = nftables.SetElement{Key: e.key}
	}
	return b.SetDeleteElements(s.kernel(t), bare)
}

func (s set) kernel(t table) *nftables.Set {
	k := &nftables.Set{
		Table: t.kernel(), Name: s.name, KeyType: s.key, Interval: s.interval, IsMap: s.verdict,
		HasTimeout: s.expires, Timeout: s.timeout, Dynamic: s.dynamic, Size: s.size,
		KeyByteOrder: binaryutil.BigEndian,
	}
	if s.key.Name == linkKey.Name {
		k.KeyByteOrder = binaryutil.NativeEndian // for those who list it: a name is text
	}
	switch {
	case s.verdict:
		k.DataType = nftables.TypeVerdict
	case s.marks:
		k.IsMap, k.DataType = true, nftables.TypeMark
	}
	return k
}

func (s set) encode(elements []element) (encoded []nftables.SetElement) {
	for _, e := range elements {
		k := nftables.SetElement{Key: e.key, Timeout: e.timeout, Comment: e.comment}
		switch {
		case e.accept:
			k.VerdictData = &expr.Verdict{Kind: expr.VerdictAccept}
		case e.mark != 0:
			k.Val = native(e.mark)
		case e.goTo != "":
			k.VerdictData = &expr.Verdict{Kind: expr.VerdictGoto, Chain: e.goTo}
		}
		encoded = append(encoded, k)
		if end, ok := s.end(e); ok {
			encoded = append(encoded, end)
		}
	}
	return encoded
}

// end of an interval is the first address behind it; behind the last there is none.
func (s set) end(e element) (nftables.SetElement, bool) {
	if !s.interval {
		return nftables.SetElement{}, false
	}
	next := slices.Clone(e.last)
	for i := len(next) - 1; i >= 0; i-- {
		if next[i]++; next[i] != 0 {
			return nftables.SetElement{Key: next, IntervalEnd: true}, true
		}
	}
	return nftables.SetElement{}, false
}

func (c chain) kernel(t table) *nftables.Chain {
	k := &nftables.Chain{Name: c.name, Table: t.kernel()}
	if c.hook != nil {
		policy := nftables.ChainPolicyAccept
		if c.drop {
			policy = nftables.ChainPolicyDrop
		}
		k.Type, k.Hooknum, k.Priority, k.Policy = c.kind, c.at, &c.priority, &policy
	}
	return k
}
