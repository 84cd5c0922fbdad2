package nft

import (
	"fmt"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// table is a rule set as a value: what is rendered as text, loaded, and compared with
// what the kernel has.
type table struct {
	family nftables.TableFamily
	name   string
	sets   []set
	chains []chain
}

// set, or map where verdict is true.
type set struct {
	name     string
	key      nftables.SetDatatype
	verdict  bool // elements lead to verdicts
	marks    bool // elements lead to marks
	interval bool
	timeout  time.Duration // of elements that the packet path adds; 0 with expires: each its own
	expires  bool
	dynamic  bool // the packet path adds elements: they are nobody's business
	size     uint32
	elements []element
}

// element of a set.
type element struct {
	key     []byte
	last    []byte // of an interval
	goTo    string // of a map: a chain, or
	accept  bool   //
	mark    uint32 // of a map of marks
	timeout time.Duration
	comment string
	text    string
}

// chain of rules; hooked where hook is set.
type chain struct {
	name string
	*hook
	rules []rule
}

type hook struct {
	kind     nftables.ChainType
	at       *nftables.ChainHook
	atText   string
	priority nftables.ChainPriority
	drop     bool // what no rule decides
}

// rule is statements in a row.
type rule []statement

// statement is one thing that a rule does, in both languages.
type statement struct {
	text  string
	exprs []expr.Any
}

func (r rule) exprs() (all []expr.Any) {
	for _, s := range r {
		all = append(all, s.exprs...)
	}
	return all
}

func (r rule) String() string {
	texts := make([]string, len(r))
	for i, s := range r {
		texts[i] = s.text
	}
	return strings.Join(texts, " ")
}

// String is the table as the nft program reads it.
func (t table) String() string {
	family := map[nftables.TableFamily]string{nftables.TableFamilyINet: "inet", nftables.TableFamilyARP: "arp"}[t.family]
	var b strings.Builder
	fmt.Fprintf(&b, "table %s %s {\n", family, t.name)
	for _, s := range t.sets {
		b.WriteString(s.text())
	}
	for _, c := range t.chains {
		b.WriteString(c.text())
	}
	b.WriteString("}\n")
	return b.String()
}

func (s set) text() string {
	var b strings.Builder
	word, kind := "set", s.key.Name
	switch {
	case s.verdict:
		word, kind = "map", kind+" : verdict"
	case s.marks:
		word, kind = "map", kind+" : mark"
	}
	fmt.Fprintf(&b, "\t%s %s {\n\t\ttype %s\n", word, s.name, kind)
	if s.size > 0 {
		fmt.Fprintf(&b, "\t\tsize %d\n", s.size)
	}
	var flags []string
	for _, f := range []struct {
		on   bool
		name string
	}{{s.dynamic, "dynamic"}, {s.interval, "interval"}, {s.expires, "timeout"}} {
		if f.on {
			flags = append(flags, f.name)
		}
	}
	if len(flags) > 0 {
		fmt.Fprintf(&b, "\t\tflags %s\n", strings.Join(flags, ","))
	}
	if s.timeout > 0 {
		fmt.Fprintf(&b, "\t\ttimeout %ds\n", int(s.timeout.Seconds()))
	}
	if len(s.elements) > 0 {
		b.WriteString("\t\telements = {\n")
		for _, e := range s.elements {
			fmt.Fprintf(&b, "\t\t\t%s,\n", e)
		}
		b.WriteString("\t\t}\n")
	}
	b.WriteString("\t}\n")
	return b.String()
}

// String is the element as the nft program reads it.
func (e element) String() string {
	text := e.text
	if e.timeout > 0 {
		text += fmt.Sprintf(" timeout %ds", int(e.timeout.Seconds()))
	}
	if e.comment != "" {
		text += fmt.Sprintf(" comment %q", e.comment)
	}
	switch {
	case e.accept:
		text += " : accept"
	case e.goTo != "":
		text += " : goto " + e.goTo
	case e.mark != 0:
		text += fmt.Sprintf(" : 0x%08x", e.mark)
	}
	return text
}

func (c chain) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "\tchain %s {\n", c.name)
	if c.hook != nil {
		policy := "accept"
		if c.drop {
			policy = "drop"
		}
		fmt.Fprintf(&b, "\t\ttype %s hook %s priority %d; policy %s;\n", c.kind, c.atText, c.priority, policy)
	}
	for _, r := range c.rules {
		fmt.Fprintf(&b, "\t\t%s\n", r)
	}
	b.WriteString("\t}\n")
	return b.String()
}
