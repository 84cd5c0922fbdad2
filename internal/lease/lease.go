// Package lease keeps who has which sandbox address, as files in a directory that
// is gone after a reboot together with the links it speaks of.
//
// A lease is one file with a name for its link and one for each address. The link's
// name comes first and alone says what must be undone, so a process that dies
// half-way leaves a lease that its owner's DEL finds; an address's name is a hard
// link to the same file, and making it is what reserves the address. Addresses are
// handed out in turn, not lowest first, so one is reused as late as possible. To find
// the next one costs the same with ten leases as with ten thousand.
//
// The caller holds the node's network lock.
package lease

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"brig/internal/attachment"
)

// ErrExhausted says that every address of the pool is taken.
var ErrExhausted = errors.New("no free address")

// ErrTaken says that an address asked for is another's.
var ErrTaken = errors.New("address is leased to another attachment")

// Lease of an address.
type Lease struct {
	Link        string     `json:"link"`
	Address     netip.Addr `json:"address"`           // IPv4
	Addr6       netip.Addr `json:"address6,omitzero"` // invalid: the sandbox has no IPv6
	Network     string     `json:"network"`
	ContainerID string     `json:"container_id"`
	IfName      string     `json:"ifname"`
	NetNS       uint64     `json:"netns"`
}

// Identity of the attachment that holds the lease.
func (l Lease) Identity() attachment.Identity {
	return attachment.Identity{Key: attachment.Key{Network: l.Network, ContainerID: l.ContainerID, IfName: l.IfName}, NetNS: l.NetNS}
}

// Dir holds the leases of one node.
type Dir string

// cursor is the file that names the address given out last.
const cursor = "cursor"

// addresses of the lease: one, or two.
func (l Lease) addresses() []netip.Addr {
	if l.Addr6.IsValid() {
		return []netip.Addr{l.Address, l.Addr6}
	}
	return []netip.Addr{l.Address}
}

// Begun tells whether an address was ever leased here. Where none was, the kernel may
// remember connections of an earlier life of the directory.
func (d Dir) Begun() bool {
	_, err := os.Lstat(d.path(used))
	return err == nil
}

// Take leases the next free address of pool to the attachment and, if pool6 is valid,
// the address that has the same place in it.
func (d Dir) Take(i attachment.Identity, pool, pool6 netip.Prefix) (Lease, error) {
	for {
		address, err := d.next(pool)
		if err != nil {
			return Lease{}, fmt.Errorf("lease an address: %w", err)
		}
		l, err := d.Claim(i, address, inPool6(pool, pool6, address))
		if errors.Is(err, ErrTaken) { // by one that was killed before it could mark it
			if err := d.mark(address, true); err != nil {
				return Lease{}, fmt.Errorf("lease an address: %w", err)
			}
			continue
		}
		if err != nil {
			return Lease{}, err
		}
		if err := d.write(cursor, []byte(address.String())); err != nil {
			return Lease{}, errors.Join(fmt.Errorf("lease an address: %w", err), d.Free(l))
		}
		return l, nil
	}
}

// inPool6 is the address of pool6 that stands as far from its beginning as a from
// pool's; none without a pool6.
func inPool6(pool, pool6 netip.Prefix, a netip.Addr) netip.Addr {
	if !pool6.IsValid() {
		return netip.Addr{}
	}
	b := pool6.Masked().Addr().As16()
	binary.BigEndian.PutUint32(b[12:], binary.BigEndian.Uint32(b[12:])+number(a)-number(pool.Masked().Addr()))
	return netip.AddrFrom16(b)
}

// Claim leases these very addresses, which somebody else picked; a6 may be invalid.
// ErrTaken if another attachment has one of them.
func (d Dir) Claim(i attachment.Identity, a, a6 netip.Addr) (Lease, error) {
	if err := os.MkdirAll(string(d), 0o700); err != nil {
		return Lease{}, fmt.Errorf("lease an address: %w", err)
	}
	l := Lease{Link: i.Link(), Address: a, Addr6: a6, Network: i.Network, ContainerID: i.ContainerID, IfName: i.IfName, NetNS: i.NetNS}
	data, err := json.Marshal(l)
	if err != nil {
		return Lease{}, fmt.Errorf("lease an address: %w", err)
	}
	if err := errors.Join(d.write(l.Link, data), d.reserve(l)); err != nil {
		return Lease{}, errors.Join(fmt.Errorf("lease an address: %w", err), d.Free(l))
	}
	return l, nil
}

func (d Dir) reserve(l Lease) error {
	for _, a := range l.addresses() {
		err := os.Link(d.path(l.Link), d.path(a.String()))
		if errors.Is(err, os.ErrExist) {
			return fmt.Errorf("%s: %w", a, ErrTaken)
		}
		if err != nil {
			return err
		}
	}
	return d.mark(l.Address, true)
}

// half is where a file is written before it gets its name; of a process that died
// there is one at most, and Tidy removes it.
const half = ".new"

// write replaces a file as a whole.
func (d Dir) write(name string, data []byte) error {
	if err := os.WriteFile(d.path(half), data, 0o600); err != nil {
		return err
	}
	return os.Rename(d.path(half), d.path(name))
}

// Find the lease of a link, or of an address; none is os.ErrNotExist.
func (d Dir) Find(link string) (Lease, error) {
	data, err := os.ReadFile(d.path(link))
	if err != nil {
		return Lease{}, fmt.Errorf("read lease: %w", err)
	}
	var l Lease
	if err := json.Unmarshal(data, &l); err != nil {
		return Lease{}, fmt.Errorf("read lease of %s: %w", link, err)
	}
	return l, nil
}

// Holds tells whether the addresses are reserved by this very lease: one whose owner
// died half-way holds none, and its address may be another's by now.
func (d Dir) Holds(l Lease) bool {
	for _, a := range l.addresses() {
		if !d.holds(l, a) {
			return false
		}
	}
	return true
}

func (d Dir) holds(l Lease, a netip.Addr) bool {
	byLink, err := os.Stat(d.path(l.Link))
	if err != nil {
		return false
	}
	byAddress, err := os.Stat(d.path(a.String()))
	return err == nil && os.SameFile(byLink, byAddress)
}

// Free gives the lease back. One that is not there is no error.
func (d Dir) Free(l Lease) error {
	for _, a := range l.addresses() {
		if !d.holds(l, a) {
			continue
		}
		if err := d.remove(a.String()); err != nil {
			return err
		}
		if a.Is4() {
			if err := d.mark(a, false); err != nil {
				return err
			}
		}
	}
	if err := d.remove(l.Link); err != nil {
		return err
	}
	return d.Tidy()
}

// Orphans are the leases of addresses whose link's name is not there, or is another
// lease's: nobody's DEL finds them. No process that dies leaves one; somebody who
// removes files does.
func (d Dir) Orphans() ([]Lease, error) {
	entries, err := os.ReadDir(string(d))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("list leases: %w", err)
	}
	var orphans []Lease
	for _, e := range entries {
		a, err := netip.ParseAddr(e.Name())
		if err != nil {
			continue
		}
		l, err := d.Find(e.Name())
		if err != nil {
			return nil, err
		}
		if !d.holds(l, a) {
			orphans = append(orphans, l)
		}
	}
	return orphans, nil
}

// FreeOrphan gives the addresses of an orphan back.
func (d Dir) FreeOrphan(l Lease) error {
	for _, a := range l.addresses() {
		other, err := d.Find(a.String())
		if errors.Is(err, os.ErrNotExist) || err == nil && d.holds(other, a) {
			continue
		}
		if err := errors.Join(err, d.remove(a.String())); err != nil {
			return err
		}
		if a.Is4() {
			if err := d.mark(a, false); err != nil {
				return err
			}
		}
	}
	return nil
}

// Tidy removes what a process wrote only half of.
func (d Dir) Tidy() error { return d.remove(half) }

func (d Dir) remove(name string) error {
	if err := os.Remove(d.path(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("free lease: %w", err)
	}
	return nil
}

// All leases, in the order of their links.
func (d Dir) All() ([]Lease, error) {
	entries, err := os.ReadDir(string(d))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("list leases: %w", err)
	}
	var all []Lease
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), attachment.LinkPrefix) {
			continue
		}
		l, err := d.Find(e.Name())
		if err != nil {
			return nil, err
		}
		all = append(all, l)
	}
	return slices.Clip(all), nil
}

func (d Dir) path(name string) string { return filepath.Join(string(d), name) }
