package nft

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"brig/internal/netpolicy"
)

func names(t *testing.T, b Book) (all []string) {
	t.Helper()
	entries, err := os.ReadDir(string(b))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

func TestBook(t *testing.T) {
	b := Book(filepath.Join(t.TempDir(), "policies"))
	if all, err := b.All(); err != nil || len(all) != 0 {
		t.Errorf("of no book: %v, %v", all, err)
	}
	seats := testSeats(t)
	for range 2 {
		for _, s := range seats {
			if err := b.put(s); err != nil {
				t.Fatal(err)
			}
		}
	}
	clear(readBefore.sums)
	all, err := b.All()
	if err != nil || len(all) != len(seats) {
		t.Fatalf("%d seats, %v", len(all), err)
	}
	for i, s := range seats {
		byAddress, err := b.ByAddress(s.Addr)
		if err != nil || !reflect.DeepEqual(all[i], byAddress) || byAddress.Link != s.Link || !reflect.DeepEqual(texts(all[i]), texts(s)) {
			t.Errorf("%+v came back as %+v, and by its address as %+v, %v", s, all[i], byAddress, err)
		}
	}
	for _, s := range seats {
		if err := errors.Join(b.remove(s), b.remove(s)); err != nil {
			t.Error(err)
		}
	}
	if left := names(t, b); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if _, err := b.Get(seats[0].Link); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("of a link without a seat: %v", err)
	}
	if _, err := b.ByAddress(netip.MustParseAddr("10.88.0.1")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("of an address without a seat: %v", err)
	}
}

// texts of a seat's policies: two that are equal may have been made in two ways.
func texts(s Seat) (all []string) {
	for _, g := range []*Grant{s.Grant, s.leased()} {
		if g != nil {
			all = append(all, string(g.Policy.Canonical()))
		}
	}
	return append(all, s.Link, s.MAC, s.Addr.String(), s.Addr6.String())
}

// TestPoliciesAreKeptOnce: a hundred sandboxes with one long list take little more room
// than one, and the last one takes it away.
func TestPoliciesAreKeptOnce(t *testing.T) {
	b := Book(t.TempDir())
	p := testSeats(t)[2].Grant.Policy
	for n := range byte(100) {
		if err := b.put(Seat{Binding: binding(n), Grant: &Grant{p, 1}}); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(b.path(p.Sum()))
	if err != nil || links(info) != 101 {
		t.Fatalf("%v, %v", info, err)
	}
	for n := range byte(100) {
		s := Seat{Binding: binding(n), Grant: &Grant{netpolicy.Open(), 2}, Lease: &Lease{Grant{p, 3}, time.Hour}}
		if err := b.put(s); err != nil {
			t.Fatal(err)
		}
		s.Lease = nil
		if err := b.put(s); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(b.path(p.Sum())); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("nobody has the policy, and it is there: %v", err)
	}
}

// TestADamagedBook: doubt is an error, and never a seat without its policy.
func TestADamagedBook(t *testing.T) {
	s := testSeats(t)[2]
	sum := s.Grant.Policy.Sum()
	for name, damage := range map[string]func(b Book) error{
		"cut page":       func(b Book) error { return os.WriteFile(b.path(s.Link+".json"), []byte(`{"link":`), 0o600) },
		"no policy":      func(b Book) error { return os.Remove(b.path(sum)) },
		"another policy": func(b Book) error { return os.WriteFile(b.path(sum), netpolicy.Open().Canonical(), 0o600) },
	} {
		b := Book(t.TempDir())
		if err := errors.Join(b.put(s), damage(b)); err != nil {
			t.Fatal(err)
		}
		clear(readBefore.sums)
		if got, err := b.Get(s.Link); err == nil || errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), s.Link) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		if _, err := b.All(); err == nil {
			t.Errorf("%s: All is no error", name)
		}
	}
}
