package isolation

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"brig/internal/netns"
	"brig/internal/netpolicy"
)

// TestMalformedPolicies: a policy that cannot be read as a whole is refused as a whole,
// with the entry named, and the sandbox stays closed. The same by the plugin's word.
func TestMalformedPolicies(t *testing.T) {
	w := newWorld(t, "")
	s := w.sandbox("s1")
	wire := w.capture(w.internet, "eth0")
	tooLong := strings.Repeat("8.8.8.8/32,", netpolicy.MaxEntries) + "8.8.8.8/32"
	for i, c := range []struct{ name, list, want string }{
		{"no prefix", "8.8.8.8", "8.8.8.8/32"},
		{"host bits", "8.8.8.1/24", "8.8.8.0/24"},
		{"prefix of 33", "8.8.8.0/33", "8.8.8.0/33"},
		{"negative prefix", "8.8.8.0/-1", "8.8.8.0/-1"},
		{"octet of 256", "256.0.0.0/8", "256.0.0.0/8"},
		{"octal octets", "010.0.0.0/8", "010.0.0.0/8"},
		{"short address", "8.8/16", "8.8/16"},
		{"hexadecimal", "0x08080808/32", "0x08080808/32"},
		{"a zone", "fe80::%eth0/64", "fe80::%eth0/64"},
		{"mapped", "::ffff:8.8.8.8/128", "::ffff:8.8.8.8/128"},
		{"a name", "example.com/32", "example.com/32"},
		{"a new line", "8.8.8.0/24\n10.0.0.0/8", "Invalid CIDR"},
		{"an injected rule", "8.8.8.0/24 }; flush ruleset", "Invalid CIDR"},
		{"a second entry that is empty", "8.8.8.0/24,,9.9.9.0/24", "Invalid CIDR"},
		{"one bad among good", "8.8.8.0/24,nonsense,9.9.9.0/24", "nonsense"},
		{"private", "10.0.0.0/8", "allow_private"},
		{"private among good", "8.8.8.0/24,192.168.1.0/24", "allow_private"},
		{"within private", "10.1.2.3/32", "allow_private"},
		{"shared", "100.64.0.0/10", "allow_private"},
		{"link-local", "169.254.0.0/16", "allow_private"},
		{"metadata", "168.63.129.16/32", "allow_private"},
		{"loopback", "127.0.0.0/8", "allow_private"},
		{"multicast", "224.0.0.0/4", "allow_private"},
		{"broadcast", "255.255.255.255/32", "allow_private"},
		{"one too many", tooLong, "at most 100000"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := w.in(t)
			err := s.start(map[string]string{"brig/cidr-allowlist": c.list})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error %v, want one that contains %q", err, c.want)
			}
			if len(err.Error()) > 400 || strings.ContainsAny(err.Error(), "\n\r") {
				t.Errorf("the error is not one short line: %.500q", err)
			}
			w.inject(s.ns, "eth0", s.honest(serverAddr, marker("bad", i)).encode())
		})
	}
	for name, policy := range map[string]any{
		"not JSON": `{"egress":`, "no egress": `{}`, "unknown egress": `{"egress":"everything"}`, "unknown field": `{"egress":"open","also":1}`, "two fields of a name": `{"egress":"list","egress":"open"}`,
		"ranges of an open one": `{"egress":"open","ranges":["8.8.8.8-8.8.8.8"]}`, "a range that is upside down": `{"egress":"list","ranges":["8.8.8.9-8.8.8.8"]}`,
		"two families in a range": `{"egress":"list","ranges":["8.8.8.8-2001:db8::1"]}`, "private": `{"egress":"list","ranges":["10.0.0.0-10.0.0.255"]}`, "the whole space": `{"egress":"list","ranges":["0.0.0.0-255.255.255.255"]}`,
		"a number": 7, "a list": []string{"8.8.8.0/24"}, "something after it": `{"egress":"open"}{}`,
	} {
		t.Run("plugin: "+name, func(t *testing.T) {
			w := w.in(t)
			b := w.bare("b" + fmt.Sprint(len(name)))
			_, err := w.cni(t.Context(), "ADD", b.id, netns.Path(b.ns), map[string]any{"runtimeConfig": map[string]any{"brig.network-policy": policy}})
			if err == nil {
				t.Error("it is taken")
			}
			if _, err := w.cni(t.Context(), "DEL", b.id, netns.Path(b.ns), nil); err != nil {
				t.Error(err)
			}
		})
	}
	if chain := bound(w, s); chain != "" {
		t.Errorf("a refused start bound %s", chain)
	}
	w.must(s.start(allow("203.0.113.0/25")))
	w.inject(s.ns, "eth0", s.honest(serverAddr, "<control>").encode())
	if !wire.await("<control>") {
		t.Fatal("a good policy does not open, so nothing is proven")
	}
	if wire.saw("<bad") {
		t.Error("a packet left after a policy was refused")
	}
}

// TestEdgesOfLists: what a list names it reaches, and not the next address: at the ends
// of everything, with entries that overlap, and for a list that names everything.
func TestEdgesOfLists(t *testing.T) {
	w := newWorld(t, "")
	wire := w.capture(w.internet, "eth0")
	for i, c := range []struct {
		name    string
		list    []string
		in, out []string
	}{
		{"everything", []string{"0.0.0.0/0"}, []string{"1.0.0.0", "9.255.255.255", "11.0.0.0", "223.255.255.255", "100.63.255.255", "100.128.0.0"},
			[]string{"0.0.0.0", "0.255.255.255", "10.0.0.0", "10.255.255.255", "100.64.0.0", "127.0.0.1", "169.254.169.254", "192.168.0.0", "224.0.0.0", "255.255.255.255", "203.0.113.1"}},
		{"both halves", []string{"0.0.0.0/1", "128.0.0.0/1"}, []string{"126.255.255.255", "128.0.0.0"}, []string{"127.255.255.255", "10.0.0.1", "240.0.0.0"}},
		{"x.x.x.255", []string{"8.8.8.255/32"}, []string{"8.8.8.255"}, []string{"8.8.8.254", "8.8.9.0"}},
		{"x.x.x.0", []string{"8.8.8.0/32"}, []string{"8.8.8.0"}, []string{"8.8.7.255", "8.8.8.1"}},
		{"the last public one", []string{"223.255.255.255/32"}, []string{"223.255.255.255"}, []string{"223.255.255.254", "224.0.0.0"}},
		{"the first public one", []string{"1.0.0.0/32"}, []string{"1.0.0.0"}, []string{"0.255.255.255", "1.0.0.1"}},
		{"overlapping", []string{"8.0.0.0/8", "8.8.0.0/16", "8.8.8.8/32", "8.0.0.0/8"}, []string{"8.0.0.0", "8.255.255.255"}, []string{"7.255.255.255", "9.0.0.0"}},
		{"adjacent", []string{"8.0.0.0/9", "8.128.0.0/9", "9.0.0.0/32"}, []string{"8.127.255.255", "8.128.0.0", "9.0.0.0"}, []string{"9.0.0.1"}},
		{"around a private range", []string{"172.0.0.0/8"}, []string{"172.15.255.255", "172.32.0.0"}, []string{"172.16.0.0", "172.31.255.255"}},
		{"nothing", []string{}, nil, []string{"8.8.8.8", "0.0.0.0", "255.255.255.255"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := w.in(t)
			s, free := w.sandbox(fmt.Sprint("s", i)), w.sandbox(fmt.Sprint("f", i))
			w.must(s.start(allow(c.list...)))
			w.must(free.start(nil))
			var frames [][]byte
			for j, a := range addrs(append(c.in, c.out...)...) {
				frames = append(frames, s.honest(a, marker(fmt.Sprint("edge ", i), j)).encode())
			}
			w.inject(s.ns, "eth0", frames...)
			w.inject(free.ns, "eth0", free.honest(serverAddr, control("edge", i)).encode())
			if !wire.await(control("edge", i)) {
				t.Fatal("a sibling's packet did not arrive, so nothing is proven")
			}
			for j, a := range append(c.in, c.out...) {
				if got, want := wire.saw(marker(fmt.Sprint("edge ", i), j)), j < len(c.in); got != want {
					t.Errorf("%s left: %t, want %t", a, got, want)
				}
			}
		})
	}
}

// TestBeforeThePolicy: no packet passes before the gate has bound the policy, however
// often ADD is called, also with the same id for another namespace; and one more ADD
// does not open what is bound tighter.
func TestBeforeThePolicy(t *testing.T) {
	w := newWorld(t, "")
	wire := w.capture(w.internet, "eth0")
	s, free := w.sandbox("s1"), w.sandbox("free")
	w.must(free.start(nil))
	add := func(s *sandbox) {
		out, err := w.cni(t.Context(), "ADD", s.id, netns.Path(s.ns), nil)
		w.must(err)
		var result struct{ IPs []struct{ Address string } }
		w.must(json.Unmarshal(out, &result))
		if got := result.IPs[0].Address; got != s.addr.String()+"/32" {
			t.Errorf("ADD again gives %s, was %s", got, s.addr)
		}
	}
	tries := func(s *sandbox, what string, want bool) {
		t.Helper()
		w.inject(s.ns, "eth0", s.honest(serverAddr, "<"+what+" listed>").encode(), s.honest(otherAddr, "<"+what+" other>").encode())
		w.inject(free.ns, "eth0", free.honest(serverAddr, "<"+what+" control>").encode())
		if !wire.await("<" + what + " control>") {
			t.Fatal("a sibling's packet did not arrive, so nothing is proven")
		}
		if got := wire.saw("<" + what + " listed>"); got != want {
			t.Errorf("%s: the listed server is reached: %t, want %t", what, got, want)
		}
		if wire.saw("<" + what + " other>") {
			t.Errorf("%s: a server that is not listed is reached", what)
		}
	}
	tries(s, "after ADD", false)
	add(s)
	tries(s, "after ADD twice", false)
	w.must(s.start(allow("203.0.113.0/25")))
	tries(s, "bound", true)
	add(s)
	tries(s, "bound, and ADD again", bound(w, s) != "")
	w.delete1(s)
	second := w.bare("second")
	second.id, second.addr = s.id, s.addr
	out, err := w.cni(t.Context(), "ADD", second.id, netns.Path(second.ns), nil)
	w.must(err)
	if !strings.Contains(string(out), `"169.254.1.1"`) {
		t.Fatalf("ADD of the same id for another namespace: %s", out)
	}
	if chain := bound(w, second); chain != "" {
		t.Errorf("a policy of the one before is bound: %s", chain)
	}
}

// TestIDOfAnother: an ADD with an id that is attached, for another namespace, does not
// leave the first with the second's identity, or the second with the first's policy.
func TestIDOfAnother(t *testing.T) {
	w := newWorld(t, "")
	wire := w.capture(w.internet, "eth0")
	first := w.sandbox("s1")
	w.must(first.start(nil))
	w.sandbox("another")
	second := w.bare("s2")
	second.id = first.id
	_, err := w.cni(t.Context(), "ADD", second.id, netns.Path(second.ns), nil)
	w.must(err)
	if chain := bound(w, second); chain != "" {
		t.Errorf("the second namespace begins with the first's policy, %s", chain)
	}
	if links := w.links(); len(links) != 2 {
		t.Errorf("links %v, want two", links)
	}
	second.addr = netip.MustParseAddr(w.addresses(second))
	w.inject(second.ns, "eth0", second.honest(serverAddr, "<second, before its policy>").encode())
	if fd, err := packetSocket(first.ns, "eth0"); err == nil {
		unix.Close(fd)
		t.Error("the first namespace still has an interface, which the second's identity would be bound to")
	}
	w.must(second.start(nil))
	w.inject(second.ns, "eth0", second.honest(serverAddr, "<second>").encode())
	if !wire.await("<second>") {
		t.Fatal("the second one's packets do not leave even under a policy, so nothing is proven")
	}
	if wire.saw("before its policy") {
		t.Error("a packet left before the second one's policy was bound")
	}
}

// delete1 of a sandbox, others remain.
func (w *world) delete1(s *sandbox) {
	w.t.Helper()
	_, err := w.cni(w.t.Context(), "DEL", s.id, netns.Path(s.ns), nil)
	w.must(err)
}
