package lease

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"net/netip"
	"os"
)

// used is the file with one bit for each IPv4 address there is, set while the address
// is leased; it has holes where nothing is. The address's name is the truth: a process
// that dies between the two leaves a bit that is wrong, and whoever trips over it puts
// it right.
const used = "used"

// number of an IPv4 address, and its place in the file.
func number(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

func address(n uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], n)
	return netip.AddrFrom4(b)
}

// Room tells whether an address of pool is free: nil, or ErrExhausted.
func (d Dir) Room(pool netip.Prefix) error {
	_, err := d.next(pool)
	return err
}

// next free address after the one given out last. A pool's first and last address
// stay unused: some stacks take them for broadcasts.
func (d Dir) next(pool netip.Prefix) (netip.Addr, error) {
	size := uint32(1) << (32 - pool.Bits())
	first := number(pool.Masked().Addr()) + 1
	last := first + size - 3
	after := first
	if data, err := os.ReadFile(d.path(cursor)); err == nil {
		if a, err := netip.ParseAddr(string(data)); err == nil && pool.Contains(a) && number(a) < last {
			after = number(a) + 1
		}
	}
	for range 2 {
		for _, part := range [][2]uint32{{after, last}, {first, after - 1}} {
			n, ok, err := d.clear(part[0], part[1])
			if err != nil {
				return netip.Addr{}, err
			}
			if ok {
				return address(n), nil
			}
		}
		if err := d.recount(first, last); err != nil {
			return netip.Addr{}, err
		}
	}
	return netip.Addr{}, fmt.Errorf("%w in %s: all %d are leased", ErrExhausted, pool, size-2)
}

// chunk of the file that is read at once, in bytes.
const chunk = 4096

// clear finds the first bit from from to to that is not set.
func (d Dir) clear(from, to uint32) (n uint32, ok bool, err error) {
	f, err := os.Open(d.path(used))
	if errors.Is(err, os.ErrNotExist) {
		return from, from <= to, nil
	}
	if err != nil {
		return 0, false, err
	}
	defer f.Close()
	for n := uint64(from); n <= uint64(to); {
		var part [chunk]byte // what lies behind the file's end is clear
		if _, err := f.ReadAt(part[:], int64(n/8)); err != nil && !errors.Is(err, io.EOF) {
			return 0, false, err
		}
		part[0] |= 1<<(n%8) - 1 // before the beginning
		for i, b := range part {
			if b != 0xff {
				n = (n/8+uint64(i))*8 + uint64(bits.TrailingZeros8(^b))
				return uint32(n), n <= uint64(to), nil
			}
		}
		n = (n/8 + chunk) * 8
	}
	return 0, false, nil
}

// mark an address as leased or not.
func (d Dir) mark(a netip.Addr, leased bool) error {
	f, err := os.OpenFile(d.path(used), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	n := number(a)
	var b [1]byte
	if _, err := f.ReadAt(b[:], int64(n/8)); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if leased {
		b[0] |= 1 << (n % 8)
	} else {
		b[0] &^= 1 << (n % 8)
	}
	_, err = f.WriteAt(b[:], int64(n/8))
	return err
}

// recount clears the bits of addresses that nobody has: those of processes that died
// between giving an address back and saying so.
func (d Dir) recount(first, last uint32) error {
	entries, err := os.ReadDir(string(d))
	if err != nil {
		return err
	}
	leased := map[string]bool{}
	for _, e := range entries {
		leased[e.Name()] = true
	}
	for n := uint64(first); n <= uint64(last); n++ {
		if a := address(uint32(n)); !leased[a.String()] {
			if err := d.mark(a, false); err != nil {
				return err
			}
		}
	}
	return nil
}
