package nft

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/nftables"
)

// Rules of a transit namespace.
type Rules struct {
	path string // of the namespace
	file string // of the trust
	book Book
}

// In returns the rules of the namespace at path, whose book is in the directory dir. What
// was compared with the kernel is noted beside it.
func In(path, dir string) Rules { return Rules{path, dir + ".trust", Book(dir)} }

// Book of the rules.
func (r Rules) Book() Book { return r.book }

// Path of the namespace.
func (r Rules) Path() string { return r.path }

// ErrTampered says that somebody else changed the rules at the same time.
var ErrTampered = errors.New("the transit rule set was changed by somebody else")

// Ensure brings the rules in order: the base, and all seats of the book, as they are at a
// moment of the boot-time clock. It returns at once if nothing was changed since it was last compared.
// If anything is found that should not be, everything is put in place anew in one
// transaction, and repaired is true: no sandbox is open or cut off in between, but what
// the packet path had remembered and pins are gone.
func (r Rules) Ensure(b Base, now time.Duration) (repaired bool, err error) {
	reader, want, err := r.look()
	if err != nil {
		return false, err
	}
	defer reader.Close()
	want.Base = b.sum()
	if r.readTrust() == want {
		return false, nil
	}
	all, err := r.book.All()
	if err != nil {
		return false, err
	}
	if reader.compareAll(b, all, now) != nil {
		// Often only the node's addresses are others; then nothing else is touched.
		if r.replaceSets(b) != nil || reader.compareAll(b, all, now) != nil {
			repaired = true
			if err := r.replaceAll(b, all, now); err != nil {
				return true, err
			}
		}
	}
	if want.Generation, err = reader.settled(b, all, now); err != nil {
		return repaired, fmt.Errorf("the transit rule set is not what was loaded: %w", err)
	}
	return repaired, r.writeTrust(want)
}

// settled is the generation at which the rules were found equal: a change between
// comparing and counting cannot hide.
func (r reader) settled(b Base, seats []Seat, now time.Duration) (uint32, error) {
	for range 3 {
		before, err := r.generation()
		if err != nil {
			return 0, err
		}
		if err := r.compareAll(b, seats, now); err != nil {
			return 0, err
		}
		if after, err := r.generation(); err != nil || after == before {
			return after, err
		}
	}
	return 0, ErrTampered
}

// replaceSets puts the node's addresses and the operator's ranges in place anew.
func (r Rules) replaceSets(b Base) error {
	batch, err := open(r.path)
	if err != nil {
		return err
	}
	defer batch.close()
	for _, s := range baseSets(b) {
		if changeable[s.name] {
			batch.FlushSet(s.kernel(transitTable))
			if err := batch.addElements(transitTable, s, s.elements); err != nil {
				return err
			}
		}
	}
	return batch.commit()
}

// changeable sets of the base follow the host and the configuration.
var changeable = map[string]bool{"node4": true, "node6": true, "private4": true, "private6": true}

// compareAll leaves the elements of pins out: they come and go.
func (r reader) compareAll(b Base, seats []Seat, now time.Duration) error {
	return errors.Join(r.compare(transit(b, seats, now), "sni4", "pins4"), r.compare(neighbours()))
}

func (r Rules) replaceAll(b Base, seats []Seat, now time.Duration) error {
	batch, err := open(r.path)
	if err != nil {
		return err
	}
	defer batch.close()
	if err := errors.Join(batch.replace(transit(b, seats, now)), batch.replace(neighbours())); err != nil {
		return err
	}
	if err := batch.commit(); err != nil {
		return fmt.Errorf("load the transit rule set: %w", err)
	}
	return nil
}

// transitTable is what elements are put into and read from.
var transitTable = table{family: nftables.TableFamilyINet, name: tableName}

// change makes one transaction of what fn puts into the batch, and has verify read it
// back. It needs the trust that Ensure left, and leaves it anew. intend writes the book
// once nothing but the kernel can fail; it is called again, to take that back, if it does.
func (r Rules) change(intend func(back bool) error, fn func(*batch, reader) error, verify func(reader) error) error {
	kernel, err := openReader(r.path)
	if err != nil {
		return err
	}
	defer kernel.Close()
	before := r.readTrust()
	generation, err := kernel.generation()
	if err != nil {
		return err
	}
	if before.Generation != generation {
		return ErrTampered
	}
	batch, err := open(r.path)
	if err != nil {
		return err
	}
	defer batch.close()
	if err := fn(batch, kernel); err != nil {
		return err
	}
	if batch.empty {
		batch.failed = false
		return errors.Join(intend(false), verify(kernel))
	}
	if err := errors.Join(r.distrust(), intend(false)); err != nil {
		return errors.Join(err, intend(true))
	}
	if err := batch.commit(); err != nil {
		return errors.Join(err, intend(true))
	}
	after, err := kernel.generation()
	if err == nil && after != before.Generation+1 {
		err = ErrTampered
	}
	if err == nil {
		err = verify(kernel)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("the transit rule set is not what was loaded: %w", err), intend(true))
	}
	before.Generation = after
	return r.writeTrust(before)
}

func noIntent(bool) error { return nil }

// Identify gives a link that has none an identity and no policy: deny.
func (r Rules) Identify(b Binding) error {
	s := Seat{Binding: b}
	err := r.change(
		func(back bool) error {
			if back {
				return r.book.remove(s)
			}
			return r.book.put(s)
		},
		func(batch *batch, kernel reader) error { return batch.put(kernel, s, 0) },
		func(kernel reader) error { return kernel.verifySeat(s, 0) })
	if err != nil {
		return fmt.Errorf("bind %s: %w", b.Link, err)
	}
	return nil
}

// Replace puts one seat in the place of another of the same binding in one transaction,
// and returns once the kernel's rules were read back and found to be exactly that.
// What only the old one's policies needed is removed; what the packet path remembers of
// connections by name is forgotten.
func (r Rules) Replace(old, s Seat, now time.Duration) error {
	made := []ruleSet{} // the others were compared when they were loaded
	err := r.change(
		func(back bool) error {
			if back {
				return r.book.put(old)
			}
			return r.book.put(s)
		},
		func(batch *batch, kernel reader) error {
			if err := batch.take(kernel, old, s, now); err != nil {
				return err
			}
			for _, p := range ruleSetsOf(s) {
				added, err := batch.addRuleSet(kernel, p)
				if err != nil {
					return err
				}
				if added {
					made = append(made, p)
				}
			}
			return batch.put(kernel, s, now)
		},
		func(kernel reader) error {
			for _, p := range made {
				if err := kernel.verifyRuleSet(p); err != nil {
					return err
				}
			}
			return kernel.verifySeat(s, now)
		})
	if err != nil {
		return fmt.Errorf("bind %s: %w", s.Link, err)
	}
	return r.sweep(ruleSetsOf(old))
}

// Remove takes away all that a seat has in the rules, whatever of it is there, and
// policies that nobody else has.
func (r Rules) Remove(s Seat) error {
	err := r.change(
		func(back bool) error {
			if back {
				return r.book.put(s)
			}
			return r.book.remove(s)
		},
		func(batch *batch, kernel reader) error { return batch.take(kernel, s, Seat{}, 0) },
		func(kernel reader) error { return kernel.verifyGone(s) })
	if err != nil {
		return fmt.Errorf("unbind %s: %w", s.Link, err)
	}
	return r.sweep(ruleSetsOf(s))
}

// sweep removes those of the policies that nobody has.
func (r Rules) sweep(policies []ruleSet) error {
	kernel, err := openReader(r.path)
	if err != nil {
		return err
	}
	defer kernel.Close()
	for _, p := range policies {
		idle, err := kernel.idle(p)
		if err == nil && idle {
			err = r.change(noIntent, func(batch *batch, _ reader) error { batch.deleteRuleSet(p.hash()); return nil }, unverified)
		}
		if err != nil {
			return fmt.Errorf("remove policy %s: %w", p.Policy, err)
		}
	}
	return nil
}

func unverified(reader) error { return nil }

// idle tells whether the kernel has a policy to which nothing leads any more. Asked to
// remove another, it would refuse, and take long.
func (r reader) idle(p ruleSet) (bool, error) {
	for _, c := range p.chains() {
		got, err := r.chainHead(transitTable, c.name)
		if err != nil || got == nil || got.use != uint32(len(c.rules)) {
			return false, err
		}
	}
	return true, nil
}

// Tidy removes policies that have outlived their lease: the kernel frees what has ended in
// its own time.
func (r Rules) Tidy() error {
	kernel, err := openReader(r.path)
	if err != nil {
		return err
	}
	defer kernel.Close()
	chains, err := kernel.chains(transitTable)
	if err != nil {
		return err
	}
	for name, c := range chains {
		hash, ok := strings.CutPrefix(name, "out_")
		in := chains["in_"+hash]
		if !ok || len(hash) < 64 || in == nil || int(c.use) != len(c.rules) || int(in.use) != len(in.rules) {
			continue
		}
		if err := r.change(noIntent, func(batch *batch, _ reader) error { batch.deleteRuleSet(hash); return nil }, unverified); err != nil {
			return fmt.Errorf("remove policy %s: %w", hash, err)
		}
	}
	return nil
}

// Verify reads a seat and the policies that it counts on back from the kernel, base
// included, and tells what is not as it should be.
func (r Rules) Verify(b Base, s Seat, now time.Duration) error {
	reader, err := openReader(r.path)
	if err != nil {
		return err
	}
	defer reader.Close()
	if err := reader.verifyBase(b); err != nil {
		return err
	}
	return reader.verifyBound(s, now)
}

// Confirm is Verify for whoever has had Ensure make the same base good, under the lock that it
// still holds: it reads what is the seat's, and the base only if the kernel says that somebody
// has changed rules since.
func (r Rules) Confirm(b Base, s Seat, now time.Duration) error {
	reader, seen, err := r.look()
	if err != nil {
		return err
	}
	defer reader.Close()
	if noted := r.readTrust(); noted.Namespace != seen.Namespace || noted.Generation != seen.Generation {
		if err := reader.verifyBase(b); err != nil {
			return err
		}
	}
	return reader.verifyBound(s, now)
}

func (r reader) verifyBound(s Seat, now time.Duration) error {
	for _, p := range ruleSetsOf(s) {
		if err := r.verifyRuleSet(p); err != nil {
			return err
		}
	}
	return r.verifySeat(s, now)
}
