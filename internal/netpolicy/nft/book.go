package nft

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"brig/internal/netpolicy"
)

// Book is a directory with the seat of every sandbox: what the rules should be. It is
// written before the kernel is told, so whoever finds the two different knows which is
// right. It goes with the namespace or before it.
//
// A seat is a page named by its link; its addresses lead to the page. Policies stand
// beside it, each once, named by their sums: lists are long and sandboxes many. Who has
// one holds it by a hard link. It may be read without the lock.
type Book string

const pageSuffix = ".json"

func (b Book) path(name string) string { return filepath.Join(string(b), name) }

// page is a seat with the sums of its policies.
type page struct {
	Binding
	First string     `json:"first,omitempty"`
	Grant *pageGrant `json:"grant,omitempty"`
	Lease *pageGrant `json:"lease,omitempty"`
}

type pageGrant struct {
	Policy     string        `json:"policy"`
	Generation uint64        `json:"generation"`
	Until      time.Duration `json:"until,omitempty"`
}

// holds are the names by which a page holds its policies.
func (p page) holds() map[string]*pageGrant {
	return map[string]*pageGrant{p.Link + ".grant": p.Grant, p.Link + ".lease": p.Lease}
}

// put replaces a seat's page.
func (b Book) put(s Seat) error {
	if err := b.write(s); err != nil {
		return fmt.Errorf("note the policy of %s: %w", s.Link, err)
	}
	return nil
}

func (b Book) write(s Seat) error {
	if err := os.MkdirAll(string(b), 0o700); err != nil {
		return err
	}
	before, _ := b.page(s.Link + pageSuffix) // none has no policies to forget
	p := page{Binding: s.Binding, First: s.First}
	if s.Grant != nil {
		p.Grant = &pageGrant{Policy: s.Grant.Policy.Sum(), Generation: s.Grant.Generation}
	}
	if s.Lease != nil {
		p.Lease = &pageGrant{Policy: s.Lease.Policy.Sum(), Generation: s.Lease.Generation, Until: s.Lease.Until}
	}
	for _, g := range []*Grant{s.Grant, s.leased()} {
		if g != nil {
			if err := b.keep(g.Policy); err != nil {
				return err
			}
		}
	}
	for name, g := range p.holds() {
		if err := b.hold(name, g); err != nil {
			return err
		}
	}
	data, err := json.Marshal(p)
	if err != nil {
		return err
	}
	if err := b.replace(s.Link+pageSuffix, data); err != nil {
		return err
	}
	for _, a := range []netip.Addr{s.Addr, s.Addr6} {
		if a.IsValid() {
			if err := b.point(a.String(), s.Link+pageSuffix); err != nil {
				return err
			}
		}
	}
	return b.forget(before)
}

// replace a file as a whole.
func (b Book) replace(name string, data []byte) error {
	return errors.Join(os.WriteFile(b.path(name+".new"), data, 0o600), os.Rename(b.path(name+".new"), b.path(name)))
}

// keep the policy, unless it is there.
func (b Book) keep(p netpolicy.Policy) error {
	if _, err := os.Lstat(b.path(p.Sum())); err == nil {
		return nil
	}
	return b.replace(p.Sum(), p.Canonical())
}

// hold a policy by a name, or nothing.
func (b Book) hold(name string, g *pageGrant) error {
	if err := b.drop(name); err != nil || g == nil {
		return err
	}
	return os.Link(b.path(g.Policy), b.path(name))
}

// forget the policies of a page that nobody holds any more.
func (b Book) forget(p page) error {
	var errs []error
	for _, g := range p.holds() {
		if g == nil {
			continue
		}
		if info, err := os.Stat(b.path(g.Policy)); err == nil && links(info) == 1 {
			errs = append(errs, b.drop(g.Policy))
		}
	}
	return errors.Join(errs...)
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
	before, _ := b.page(s.Link + pageSuffix)
	before.Link = s.Link
	err := b.drop(s.Link + pageSuffix)
	for name := range before.holds() {
		err = errors.Join(err, b.drop(name))
	}
	for _, a := range []netip.Addr{s.Addr, s.Addr6} {
		if page, failed := os.Readlink(b.path(a.String())); failed == nil && page == s.Link+pageSuffix {
			err = errors.Join(err, b.drop(a.String()))
		}
	}
	if err = errors.Join(err, b.forget(before)); err != nil {
		return fmt.Errorf("forget the policy of %s: %w", s.Link, err)
	}
	return nil
}

// Get the seat of a link; os.ErrNotExist: it has none.
func (b Book) Get(link string) (Seat, error) { return b.seat(link + pageSuffix) }

// ByAddress finds the seat of the sandbox that has the address; os.ErrNotExist: none has.
func (b Book) ByAddress(a netip.Addr) (Seat, error) {
	s, err := b.seat(a.Unmap().String())
	if err == nil && s.Addr != a.Unmap() && s.Addr6 != a {
		return Seat{}, fmt.Errorf("policy of %s: %w", a, os.ErrNotExist)
	}
	return s, err
}

// All seats, in the order of their links.
func (b Book) All() (all []Seat, err error) {
	entries, err := os.ReadDir(string(b))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("list policies: %w", err)
	}
	for _, e := range entries {
		if !e.Type().IsRegular() || !strings.HasSuffix(e.Name(), pageSuffix) {
			continue
		}
		s, err := b.seat(e.Name())
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

func (b Book) page(name string) (p page, err error) {
	data, err := os.ReadFile(b.path(name))
	if err == nil {
		err = json.Unmarshal(data, &p)
	}
	return p, err
}

// seat reads a page with its policies, again if it was replaced meanwhile.
func (b Book) seat(name string) (s Seat, err error) {
	for range 3 {
		if s, err = b.readSeat(name); err == nil {
			return s, nil
		}
		if _, gone := os.Stat(b.path(name)); gone != nil {
			break
		}
	}
	return Seat{}, fmt.Errorf("read the policy of %s: %w", strings.TrimSuffix(name, pageSuffix), err)
}

func (b Book) readSeat(name string) (Seat, error) {
	p, err := b.page(name)
	if err != nil {
		return Seat{}, err
	}
	s := Seat{Binding: p.Binding, First: p.First}
	if p.Grant != nil {
		s.Grant = &Grant{Generation: p.Grant.Generation}
		if s.Grant.Policy, err = b.policy(p.Grant.Policy); err != nil {
			return Seat{}, err
		}
	}
	if p.Lease != nil {
		s.Lease = &Lease{Grant: Grant{Generation: p.Lease.Generation}, Until: p.Lease.Until}
		if s.Lease.Policy, err = b.policy(p.Lease.Policy); err != nil {
			return Seat{}, err
		}
	}
	return s, nil
}

// policy of a sum. What the file says is held against its name.
func (b Book) policy(sum string) (netpolicy.Policy, error) {
	if p, ok := readBefore.get(sum); ok {
		return p, nil
	}
	data, err := os.ReadFile(b.path(filepath.Base(sum)))
	if errors.Is(err, os.ErrNotExist) {
		return netpolicy.Policy{}, fmt.Errorf("policy %s is missing from the book", sum) // not as if the seat were
	}
	if err != nil {
		return netpolicy.Policy{}, err
	}
	p, err := netpolicy.ParseCanonical(data)
	if err == nil && p.Sum() != sum {
		err = fmt.Errorf("policy %s is damaged", sum)
	}
	if err != nil {
		return netpolicy.Policy{}, err
	}
	readBefore.put(sum, p)
	return p, nil
}
