package isolation

import (
	"flag"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"brig/internal/netpolicy"
	"brig/internal/transit"
)

// seed and policies of TestVerdicts: `go test ./tests/isolation -args -seed 7 -policies 20000`.
var (
	seed     = flag.Uint64("seed", 1, "what the random policies and packets of TestVerdicts come from")
	policies = flag.Int("policies", 1000, "how many random policies TestVerdicts tries")
)

// packets for each policy.
const packets = 1000

// TestVerdicts: for a million packets over a thousand policies the kernel decides as
// the reference in package netpolicy does. Both are random and most lie at the edges
// of something: of the policy's ranges, of the never-list, of the address space.
func TestVerdicts(t *testing.T) {
	k := newKernel(t)
	d := newDice(k, *seed)
	var sum tally
	began := time.Now()
	var sending time.Duration
	for i := range *policies {
		spec := d.spec()
		policy := k.compile(spec)
		if i%5 == 4 { // over whatever was there
			k.lease(k.self, policy, transit.Now()+time.Hour)
			k.forget()
		} else {
			k.bind(policy)
		}
		sent := time.Now()
		one := k.judge(d, policy, packets)
		sending += time.Since(sent)
		sum.add(one)
		for _, wrong := range one.wrong {
			t.Errorf("policy %d of seed %d, %s: %s", i, *seed, brief(policy), wrong)
		}
		if len(sum.wrong) > 20 {
			t.Fatal("more than twenty packets were decided wrongly; the rest is left untried")
		}
	}
	t.Logf("%d policies, %d packets: %d accepted, %d refused, %d wrong; %.1f s, of which %.1f s for the packets; %d batches sent again",
		*policies, sum.accepted+sum.refused, sum.accepted, sum.refused, len(sum.wrong), time.Since(began).Seconds(), sending.Seconds(), k.again)
	if least := *policies * packets / 10; sum.accepted < least || sum.refused < least {
		t.Errorf("%d accepted and %d refused: the packets are too much of one kind to prove anything", sum.accepted, sum.refused)
	}
}

// TestHugeList: a list of 100,000 ranges, the longest that is taken, is exact at the
// edges of each range that is looked at.
func TestHugeList(t *testing.T) {
	k := newKernel(t)
	d := newDice(k, 3)
	list := make([]string, 0, netpolicy.MaxEntries)
	for i := range uint32(netpolicy.MaxEntries) {
		n := 11<<24 + i*512 // in every other /24, so none are adjacent
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}), 24+int(i%9))
		list = append(list, p.String())
	}
	policy := k.compile(netpolicy.Spec{CIDRAllowlist: &list})
	if n := len(policy.Ranges()); n != netpolicy.MaxEntries {
		t.Fatalf("the list has %d ranges", n)
	}
	began := time.Now()
	k.bind(policy)
	bound := time.Since(began)
	sum := k.judge(d, policy, 50_000)
	t.Logf("bound in %v; %d accepted, %d refused, %d wrong", bound, sum.accepted, sum.refused, len(sum.wrong))
	for _, wrong := range sum.wrong[:min(len(sum.wrong), 20)] {
		t.Error(wrong)
	}
	if sum.accepted < 5000 || sum.refused < 5000 {
		t.Error("the packets are too much of one kind to prove anything")
	}
	list = append(list, "9.9.9.9/32")
	if _, err := netpolicy.Compile(netpolicy.Spec{CIDRAllowlist: &list}, netpolicy.Ceiling{}); err == nil {
		t.Error("a list of one more is taken")
	}
}

// TestLeasesEndInTheKernel: a policy that is in force for a time replaces the one beneath
// it, wider or tighter, and with its time the one beneath decides again, though nobody
// is there to say so.
func TestLeasesEndInTheKernel(t *testing.T) {
	k := newKernel(t)
	d := newDice(k, 11)
	for _, c := range []struct {
		name          string
		beneath, over netpolicy.Spec
	}{
		{"a list over open", netpolicy.Spec{}, d.spec()},
		{"open over a list", d.spec(), netpolicy.Spec{}},
		{"a block over open", netpolicy.Spec{}, netpolicy.Spec{BlockNetwork: true}},
		{"open over a block", netpolicy.Spec{BlockNetwork: true}, netpolicy.Spec{}},
		{"a list over a list", d.spec(), d.spec()},
	} {
		t.Run(c.name, func(t *testing.T) {
			beneath, over := k.compile(c.beneath), k.compile(c.over)
			k.bind(beneath)
			until := transit.Now() + 3*time.Second
			k.lease(k.self, over, until)
			during := k.judge(d, over, packets)
			if transit.Now() > until {
				t.Fatal("a thousand packets took more than three seconds, so nothing is proven")
			}
			for transit.Now() < until+50*time.Millisecond { // the kernel's clock ticks in a few
				time.Sleep(20 * time.Millisecond)
			}
			after := k.judge(d, beneath, packets)
			for _, wrong := range append(during.wrong, after.wrong...)[:min(5, len(during.wrong)+len(after.wrong))] {
				t.Error(wrong)
			}
		})
	}
}

// TestWrongRulesAreSeen: the oracle tells when the rules are not the policy. Each
// mistake is made in the live rules of each of a few policies.
func TestWrongRulesAreSeen(t *testing.T) {
	k := newKernel(t)
	for _, m := range mistakes {
		t.Run(m.name, func(t *testing.T) {
			d := newDice(k, 5)
			caught, tried := 0, 0
			for tried < 8 {
				policy := k.compile(d.spec())
				text := m.change(k, policy)
				if text == "" {
					continue // the mistake cannot be made in this one
				}
				tried++
				k.bind(policy)
				if sum := k.judge(d, policy, packets); len(sum.wrong) > 0 {
					t.Fatalf("%s: the packets are judged wrongly before anything was changed: %s", brief(policy), sum.wrong[0])
				}
				k.tamper(text)
				sum := k.judge(d, policy, packets)
				if len(sum.wrong) > 0 {
					caught++
				}
				k.restore()
				if sum := k.judge(d, policy, packets); len(sum.wrong) > 0 {
					t.Errorf("%s: what was changed is not repaired: %s", brief(policy), sum.wrong[0])
				}
			}
			t.Logf("seen in %d of %d policies", caught, tried)
			if caught < tried*3/4 {
				t.Errorf("seen in %d of %d policies", caught, tried)
			}
		})
	}
}

// tally of packets.
type tally struct {
	accepted, refused int
	wrong             []string
}

func (t *tally) add(other tally) {
	t.accepted += other.accepted
	t.refused += other.refused
	t.wrong = append(t.wrong, other.wrong...)
}

func (k *kernel) compile(spec netpolicy.Spec) netpolicy.Policy {
	k.t.Helper()
	policy, err := netpolicy.Compile(spec, k.ceiling())
	k.must(err)
	return policy
}

// judge sends n random packets under a policy that is bound, and compares what the
// kernel did with what it should.
func (k *kernel) judge(d dice, policy netpolicy.Policy, n int) tally {
	k.t.Helper()
	ranges := policy.Ranges()
	trials := make([]trial, n)
	for i := range trials {
		trials[i] = d.trial(ranges)
	}
	var sum tally
	for i, arrived := range k.leaves(trials) {
		t := trials[i]
		if want := !t.forged && !k.node[t.to] && policy.Verdict(netpolicy.Packet{Dst: t.to}); arrived != want {
			sum.wrong = append(sum.wrong, fmt.Sprintf("%v: left: %t, the reference says %t", t, arrived, want))
		}
		if arrived {
			sum.accepted++
		} else {
			sum.refused++
		}
	}
	return sum
}

// String is for a failure.
func (t trial) String() string {
	return fmt.Sprintf("from %s %s to %s, protocol %d, port %d", t.src, t.from, t.to, t.proto, t.port)
}

func brief(p netpolicy.Policy) string {
	text := string(p.Canonical())
	if len(text) > 300 {
		text = text[:300] + "…"
	}
	return text
}

// mistakes that a renderer could make, as changes of the live rules. One that cannot be
// made in a policy is "".
var mistakes = []struct {
	name   string
	change func(*kernel, netpolicy.Policy) string
}{
	{"a range ends one late", func(k *kernel, p netpolicy.Policy) string {
		return widen(p, func(r netpolicy.Range) netpolicy.Range { return netpolicy.Range{From: r.From, To: r.To.Next()} })
	}},
	{"a range begins one late", func(k *kernel, p netpolicy.Policy) string {
		return widen(p, func(r netpolicy.Range) netpolicy.Range { return netpolicy.Range{From: r.From.Next(), To: r.To} })
	}},
	{"no never-list", func(k *kernel, p netpolicy.Policy) string {
		if !p.IsOpen() {
			return ""
		}
		return "flush set inet brig never4\nflush set inet brig never6\n"
	}},
	{"no never-list of IPv6", func(k *kernel, p netpolicy.Policy) string {
		if !p.IsOpen() {
			return ""
		}
		return "flush set inet brig never6\n"
	}},
	{"no node addresses", func(k *kernel, p netpolicy.Policy) string {
		if !p.Verdict(netpolicy.Packet{Dst: hostAddr}) {
			return ""
		}
		return "flush set inet brig node4\n"
	}},
	{"accept and refuse swapped", func(k *kernel, p netpolicy.Policy) string {
		if len(p.Ranges()) == 0 {
			return ""
		}
		return strings.ReplaceAll("flush chain inet brig out_HASH\nadd rule inet brig out_HASH ip daddr @cidr4_HASH goto refuse\nadd rule inet brig out_HASH ip6 daddr @cidr6_HASH goto refuse\nadd rule inet brig out_HASH accept\n", "HASH", p.Hash())
	}},
	{"one family's chain for both", func(k *kernel, p netpolicy.Policy) string {
		if _, v6 := netpolicy.Split(p.Ranges()); len(v6) == 0 {
			return ""
		}
		return strings.ReplaceAll("flush chain inet brig out_HASH\nadd rule inet brig out_HASH ip daddr @cidr4_HASH accept\nadd rule inet brig out_HASH meta nfproto ipv6 accept\nadd rule inet brig out_HASH goto refuse\n", "HASH", p.Hash())
	}},
	{"no identity", func(k *kernel, p netpolicy.Policy) string {
		if p.Blocked() || len(p.Ranges()) == 0 {
			return ""
		}
		return "flush chain inet brig identity\n"
	}},
	{"another's policy", func(k *kernel, p netpolicy.Policy) string {
		if p.Blocked() || p.IsOpen() {
			return ""
		}
		return fmt.Sprintf("delete element inet brig egress { %[1]q }\nadd element inet brig egress { %[1]q : goto out_open }\n", k.self.Link)
	}},
	{"an empty set", func(k *kernel, p netpolicy.Policy) string {
		v4, _ := netpolicy.Split(p.Ranges())
		if len(v4) == 0 {
			return ""
		}
		return "flush set inet brig cidr4_" + p.Hash() + "\n"
	}},
}

// widen changes every range of a policy that has few of them.
func widen(p netpolicy.Policy, change func(netpolicy.Range) netpolicy.Range) string {
	if len(p.Ranges()) == 0 || len(p.Ranges()) > 200 {
		return ""
	}
	var text strings.Builder
	v4, v6 := netpolicy.Split(p.Ranges())
	for set, ranges := range map[string][]netpolicy.Range{"cidr4_": v4, "cidr6_": v6} {
		set += p.Hash()
		fmt.Fprintf(&text, "flush set inet brig %s\n", set)
		for _, r := range ranges {
			r = change(r)
			switch {
			case !r.From.IsValid() || !r.To.IsValid() || r.To.Less(r.From):
			case r.From == r.To:
				fmt.Fprintf(&text, "add element inet brig %s { %s }\n", set, r.From)
			default:
				fmt.Fprintf(&text, "add element inet brig %s { %s }\n", set, r)
			}
		}
	}
	return text.String()
}
