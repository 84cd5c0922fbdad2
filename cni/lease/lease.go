// Package lease keeps who has which sandbox address, as files in a directory that
// is gone after a reboot together with the links it speaks of.
//
// A lease is one file with two names, its link's and its address's. The link's name
// comes first and alone says what must be undone, so a process that dies between the
// two leaves a lease that its owner's DEL finds; the address's name is a hard link
// to the same file, and making it is what reserves the address. Addresses are handed
// out in turn, not lowest first, so one is reused as late as possible.
//
// The caller holds the node's network lock.
package lease

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"brig/internal/attachment"
)

// ErrExhausted says that every address of the pool is taken.
var ErrExhausted = errors.New("no free address")

// Lease of an address.
type Lease struct {
	Link        string     `json:"link"`
	Address     netip.Addr `json:"address"`
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

// Take leases an address of pool to the attachment.
func (d Dir) Take(i attachment.Identity, pool netip.Prefix) (Lease, error) {
	if err := os.MkdirAll(string(d), 0o700); err != nil {
		return Lease{}, fmt.Errorf("lease an address: %w", err)
	}
	address, err := d.free(pool)
	if err != nil {
		return Lease{}, fmt.Errorf("lease an address: %w", err)
	}
	l := Lease{Link: i.Link(), Address: address, Network: i.Network, ContainerID: i.ContainerID, IfName: i.IfName, NetNS: i.NetNS}
	data, err := json.Marshal(l)
	if err != nil {
		return Lease{}, fmt.Errorf("lease an address: %w", err)
	}
	if err := errors.Join(
		d.write(l.Link, data),
		os.Link(d.path(l.Link), d.path(address.String())),
		d.write(cursor, []byte(address.String())),
	); err != nil {
		return Lease{}, errors.Join(fmt.Errorf("lease an address: %w", err), d.Free(l))
	}
	return l, nil
}

// Room tells whether an address of pool is free: nil, or ErrExhausted.
func (d Dir) Room(pool netip.Prefix) error {
	_, err := d.free(pool)
	return err
}

// free finds the next address after the one given out last. A pool's first and last
// address stay unused: some stacks take them for broadcasts.
func (d Dir) free(pool netip.Prefix) (netip.Addr, error) {
	first, usable := pool.Masked().Addr().Next(), 1<<(32-pool.Bits())-2
	next := first
	if data, err := os.ReadFile(d.path(cursor)); err == nil {
		if last, err := netip.ParseAddr(string(data)); err == nil && pool.Contains(last) {
			next = last.Next()
		}
	}
	for range usable + 2 {
		if !pool.Contains(next) || !pool.Contains(next.Next()) {
			next = first
		}
		if _, err := os.Lstat(d.path(next.String())); errors.Is(err, os.ErrNotExist) {
			return next, nil
		} else if err != nil {
			return netip.Addr{}, err
		}
		next = next.Next()
	}
	return netip.Addr{}, fmt.Errorf("%w in %s: all %d are leased", ErrExhausted, pool, usable)
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

// Find the lease of a link; none is os.ErrNotExist.
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

// Holds tells whether the address is reserved by this very lease: one whose owner
// died half-way holds none, and its address may be another's by now.
func (d Dir) Holds(l Lease) bool {
	byLink, err := os.Stat(d.path(l.Link))
	if err != nil {
		return false
	}
	byAddress, err := os.Stat(d.path(l.Address.String()))
	return err == nil && os.SameFile(byLink, byAddress)
}

// Free gives the lease back. One that is not there is no error.
func (d Dir) Free(l Lease) error {
	names := []string{l.Link}
	if d.Holds(l) {
		names = []string{l.Address.String(), l.Link}
	}
	for _, name := range names {
		if err := d.remove(name); err != nil {
			return err
		}
	}
	return d.Tidy()
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
		if len(e.Name()) < 3 || e.Name()[:3] != attachment.LinkPrefix {
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
