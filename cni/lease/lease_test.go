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
	l, err := d.Take(owner(n), pool)
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
	if _, err := d.Take(owner(9), pool); !errors.Is(err, ErrExhausted) {
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
	half, err := d.Take(owner(1), pool)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(d.path(half.Address.String())); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(d.path(cursor)); err != nil {
		t.Fatal(err)
	}
	next, err := d.Take(owner(2), pool)
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
