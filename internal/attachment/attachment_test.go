package attachment

import (
	"net/netip"
	"strings"
	"testing"
)

func TestNames(t *testing.T) {
	i := Identity{Key{Network: "brig", ContainerID: "default-web", IfName: "eth0"}, 4026532208}
	alias, err := i.Alias()
	if err != nil {
		t.Fatal(err)
	}
	got := i.Link() + "\n" + alias + "\n" + MAC(netip.MustParseAddr("10.88.0.5")).String()
	want := "brg80104134bcf9\nbrig 4026532208 eth0 brig default-web\n02:01:0a:58:00:05"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if back, err := ParseAlias(alias); err != nil || back != i {
		t.Errorf("ParseAlias: %+v, %v", back, err)
	}
}

func TestKeysStayApart(t *testing.T) {
	seen := map[string]Key{}
	for _, k := range []Key{
		{"brig", "a-b-c", "eth0"}, {"brig", "a-b", "c-eth0"}, {"bri", "ga-b-c", "eth0"}, {"brig", "a-b-ceth", "0"}, {"brig", "a-b-c", "eth1"},
	} {
		if other, ok := seen[k.Link()]; ok {
			t.Errorf("%+v and %+v share a link", k, other)
		}
		seen[k.Link()] = k
		if len(k.Link()) != 15 {
			t.Errorf("%q: want 15 bytes, a link's longest name", k.Link())
		}
	}
}

func TestAliasRefuses(t *testing.T) {
	for _, k := range []Key{
		{"", "a", "eth0"}, {"brig", "", "eth0"}, {"brig", "a", ""}, {"brig", "a b", "eth0"}, {"brig", "a\n", "eth0"},
		{"brig", strings.Repeat("a", 250), "eth0"},
	} {
		if alias, err := (Identity{Key: k}).Alias(); err == nil {
			t.Errorf("%+v has the alias %q", k, alias)
		}
	}
}

func FuzzParseAlias(f *testing.F) {
	for _, s := range []string{"brig 1 eth0 brig a", "brig 01 eth0 brig a", "brig -1 eth0 brig a", "brig 1 eth0  a", "", "brig 1 eth0 brig a b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, alias string) {
		i, err := ParseAlias(alias)
		if err != nil {
			return
		}
		if again, err := i.Alias(); err != nil || again != alias {
			t.Errorf("%q became %q, %v", alias, again, err)
		}
	})
}
