package nft

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
)

// Book is a directory with the seat of every sandbox: what the rules should be. It is
// written before the kernel is told, so whoever finds the two different knows which is
// right. It goes with the namespace or before it.
type Book string

const bookSuffix = ".json"

func (b Book) path(name string) string { return filepath.Join(string(b), name) }

// put replaces a seat's page.
func (b Book) put(s Seat) error {
	data, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("note the policy of %s: %w", s.Link, err)
	}
	name := s.Link + bookSuffix
	err = errors.Join(
		os.MkdirAll(string(b), 0o700),
		os.WriteFile(b.path(name+".new"), data, 0o600),
		os.Rename(b.path(name+".new"), b.path(name)),
	)
	for _, a := range []netip.Addr{s.Addr, s.Addr6} {
		if a.IsValid() {
			err = errors.Join(err, b.point(a.String(), name))
		}
	}
	if err != nil {
		return fmt.Errorf("note the policy of %s: %w", s.Link, err)
	}
	return nil
}

// point makes the address lead to the page.
func (b Book) point(address, page string) error {
	if now, err := os.Readlink(b.path(address)); err == nil && now == page {
		return nil
	}
	return errors.Join(b.drop(address), os.Symlink(page, b.path(address)))
}

func (b Book) drop(name string) error {
	if err := os.Remove(b.path(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// remove a seat's page.
func (b Book) remove(s Seat) error {
	err := b.drop(s.Link + bookSuffix)
	for _, a := range []netip.Addr{s.Addr, s.Addr6} {
		if page, failed := os.Readlink(b.path(a.String())); failed == nil && page == s.Link+bookSuffix {
			err = errors.Join(err, b.drop(a.String()))
		}
	}
	if err != nil {
		return fmt.Errorf("forget the policy of %s: %w", s.Link, err)
	}
	return nil
}

// Get the seat of a link; os.ErrNotExist: it has none.
func (b Book) Get(link string) (Seat, error) { return b.read(link + bookSuffix) }

// ByAddress finds the seat of the sandbox that has the address; os.ErrNotExist: none has.
func (b Book) ByAddress(a netip.Addr) (Seat, error) {
	s, err := b.read(a.Unmap().String())
	if err == nil && s.Addr != a.Unmap() && s.Addr6 != a {
		return Seat{}, fmt.Errorf("policy of %s: %w", a, os.ErrNotExist)
	}
	return s, err
}

func (b Book) read(name string) (s Seat, err error) {
	data, err := os.ReadFile(b.path(name))
	if err == nil {
		err = json.Unmarshal(data, &s)
	}
	if err != nil {
		return Seat{}, fmt.Errorf("read the policy of %s: %w", strings.TrimSuffix(name, bookSuffix), err)
	}
	return s, nil
}

// All seats, in the order of their links.
func (b Book) All() (all []Seat, err error) {
	entries, err := os.ReadDir(string(b))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("list policies: %w", err)
	}
	for _, e := range entries {
		if e.Type().IsRegular() && strings.HasSuffix(e.Name(), bookSuffix) {
			s, err := b.read(e.Name())
			if err != nil {
				return nil, err
			}
			all = append(all, s)
		}
	}
	return all, nil
}
