package lease

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"brig/internal/attachment"
)

var pool = netip.MustParsePrefix("10.88.0.0/29") // six usable addresses

func owner(n int) attachment.Identity {
	return attachment.Identity{Key: attachment.Key{Network: "brig", ContainerID: fmt.Sprint("c", n), IfName: "eth0"}, NetNS: uint64(n)}
}

// take leases to owner n and returns the address or the error as text.
func take(d Dir, n int) string {
	l, err := d.Take(owner(n), pool, netip.Prefix{})
	if err != nil {
		return err.Error()
	}
	return l.Address.String()
}

func TestAddressesComeInTurnAndAreReusedLate(t *testing.T) {
	d := Dir(filepath.Join(t.TempDir(), "leases"))
	var got []string
	for n := range 4 {
		got = append(got, take(d, n))
	}
	l, err := d.Find(owner(1).Link())
	if err != nil || l.Identity() != owner(1) || !d.Holds(l) {
		t.Fatalf("lease %+v, %v", l, err)
	}
	if err := errors.Join(d.Free(l), d.Free(l)); err != nil {
		t.Fatal(err)
	}
	for n := 4; n < 8; n++ {
		got = append(got, take(d, n))
	}
	want := `10.88.0.1
10.88.0.2
10.88.0.3
10.88.0.4
10.88.0.5
10.88.0.6
10.88.0.2
lease an address: no free address in 10.88.0.0/29: all 6 are leased`
	if strings.Join(got, "\n") != want {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), want)
	}
	if _, err := d.Take(owner(9), pool, netip.Prefix{}); !errors.Is(err, ErrExhausted) {
		t.Errorf("error %v is not ErrExhausted", err)
	}
	if all, err := d.All(); err != nil || len(all) != 6 {
		t.Errorf("%d leases, %v; want 6", len(all), err)
	}
}

// A process killed after the link's name was made reserved nothing, and what it left
// must not free the next owner's address.
func TestHalfMadeLeaseFreesNothingOfOthers(t *testing.T) {
	d := Dir(t.TempDir())
	half, err := d.Take(owner(1), pool, netip.Prefix{})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(d.path(half.Address.String())); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Remove(d.path(cursor)), os.Remove(d.path(used))); err != nil {
		t.Fatal(err)
	}
	next, err := d.Take(owner(2), pool, netip.Prefix{})
	if err != nil || next.Address != half.Address {
		t.Fatalf("lease %+v, %v; want the address again", next, err)
	}
	if d.Holds(half) {
		t.Error("the half-made lease claims to hold its address")
	}
	if err := d.Free(half); err != nil {
		t.Fatal(err)
	}
	if !d.Holds(next) {
		t.Error("freeing the half-made lease freed the other's address")
	}
}

func TestNoLeases(t *testing.T) {
	d := Dir(filepath.Join(t.TempDir(), "none"))
	if all, err := d.All(); err != nil || all != nil {
		t.Errorf("%v, %v", all, err)
	}
	if _, err := d.Find("brg000000000000"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}

// A process that dies between an address's name and its bit leaves a bit that is
// wrong either way: neither hands an address out twice nor loses one.
func TestBitsThatAreWrong(t *testing.T) {
	d := Dir(t.TempDir())
	for n := range 6 {
		if got := take(d, n); got != fmt.Sprint("10.88.0.", n+1) {
			t.Fatal(got)
		}
	}
	third := netip.MustParseAddr("10.88.0.3")
	if err := d.mark(third, false); err != nil {
		t.Fatal(err)
	}
	if got := take(d, 7); !strings.Contains(got, "all 6 are leased") {
		t.Errorf("a leased address whose bit is clear: %s", got)
	}
	l, err := d.Find(owner(2).Link())
	if err := errors.Join(err, d.Free(l), d.mark(third, true)); err != nil {
		t.Fatal(err)
	}
	if got := take(d, 8); got != "10.88.0.3" {
		t.Errorf("a free address whose bit is set: %s", got)
	}
}

// An address that somebody else picked is leased to one only.
func TestClaim(t *testing.T) {
	d := Dir(t.TempDir())
	a, a6 := netip.MustParseAddr("10.88.0.4"), netip.MustParseAddr("fd00::4")
	if d.Begun() {
		t.Error("begun before the first lease")
	}
	l, err := d.Claim(owner(1), a, a6)
	if err != nil || !d.Holds(l) || !d.Begun() {
		t.Fatalf("%+v, %v, begun %t", l, err, d.Begun())
	}
	for _, pair := range [][2]netip.Addr{{a, netip.Addr{}}, {netip.MustParseAddr("10.88.0.5"), a6}} {
		if _, err := d.Claim(owner(2), pair[0], pair[1]); !errors.Is(err, ErrTaken) {
			t.Errorf("claimed twice %v: %v", pair, err)
		}
	}
	if all, err := d.All(); err != nil || len(all) != 1 || all[0] != l || !d.Holds(l) {
		t.Errorf("leases %+v, %v", all, err)
	}
	if err := d.Free(l); err != nil {
		t.Fatal(err)
	}
	if next, err := d.Claim(owner(3), a, a6); err != nil || !d.Holds(next) {
		t.Errorf("claimed again: %+v, %v", next, err)
	}
}

func TestBothFamilies(t *testing.T) {
	d := Dir(t.TempDir())
	pool6 := netip.MustParsePrefix("fd12:3456:789a::/64")
	for n, want := range []string{"10.88.0.1 fd12:3456:789a::1", "10.88.0.2 fd12:3456:789a::2"} {
		l, err := d.Take(owner(n), pool, pool6)
		if got := fmt.Sprint(l.Address, " ", l.Addr6); err != nil || got != want {
			t.Errorf("%s, %v; want %s", got, err, want)
		}
		back, err := d.Find(l.Link)
		if err != nil || back != l || !d.Holds(back) {
			t.Errorf("read back %+v, %v", back, err)
		}
	}
}

// BenchmarkTake with few and with many leases: the same.
func BenchmarkTake(b *testing.B) {
	for _, leases := range []int{10, 10000} {
		b.Run(fmt.Sprint(leases), func(b *testing.B) {
			d, pool := Dir(b.TempDir()), netip.MustParsePrefix("10.88.0.0/16")
			for n := range leases {
				if _, err := d.Take(owner(n), pool, netip.Prefix{}); err != nil {
					b.Fatal(err)
				}
			}
			for b.Loop() {
				if err := os.Remove(d.path(cursor)); err != nil { // the search begins before them all
					b.Fatal(err)
				}
				l, err := d.Take(owner(leases), pool, netip.Prefix{})
				if err := errors.Join(err, d.Free(l)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// Somebody removes a link's name: its address is nobody's, and comes back.
func TestOrphans(t *testing.T) {
	d := Dir(t.TempDir())
	whole, err := d.Take(owner(0), pool, netip.Prefix{})
	if err != nil {
		t.Fatal(err)
	}
	lost, err := d.Claim(owner(1), netip.MustParseAddr("10.88.0.4"), netip.MustParseAddr("fd00::4"))
	if err := errors.Join(err, os.Remove(d.path(lost.Link))); err != nil {
		t.Fatal(err)
	}
	orphans, err := d.Orphans()
	if err != nil || len(orphans) != 2 || orphans[0] != lost || orphans[1] != lost {
		t.Fatalf("orphans %+v, %v; want the lease, once for each address", orphans, err)
	}
	for _, l := range orphans {
		if err := d.FreeOrphan(l); err != nil {
			t.Error(err)
		}
	}
	if orphans, err := d.Orphans(); err != nil || len(orphans) > 0 || !d.Holds(whole) {
		t.Errorf("orphans %v, %v", orphans, err)
	}
	if err := d.FreeOrphan(whole); err != nil || !d.Holds(whole) {
		t.Errorf("a lease in force was freed as an orphan: %v", err)
	}
}
