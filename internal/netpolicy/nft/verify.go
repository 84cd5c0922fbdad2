package nft

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// verifySeat reads the seat's elements and tells what is missing, more or changed.
func (r reader) verifySeat(s Seat, now time.Duration) error {
	want := s.elements(now)
	for _, set := range seatSetsEmpty {
		for _, e := range s.possible(set) {
			if err := r.verifyEnding(set, e.key, want[set.name], leaseSlack); err != nil {
				return fmt.Errorf("%s of %s: %w", set.name, s.Link, err)
			}
		}
	}
	return nil
}

// leaseSlack is by how much later than noted the kernel may end a lease: it counts from
// when it was told, which on a busy machine is a while after the note.
const leaseSlack = 2 * time.Second

// verifyElement compares what the set has for a key with the one element that it should
// have, or none.
func (r reader) verifyElement(of set, key []byte, want []element) error {
	return r.verifyEnding(of, key, want, 0)
}

// verifyEnding is verifyElement of what may end later by slack.
func (r reader) verifyEnding(of set, key []byte, want []element, slack time.Duration) error {
	got, err := r.element(transitTable, of.name, key)
	switch {
	case errors.Is(err, os.ErrNotExist) && len(want) == 0:
		return nil
	case errors.Is(err, os.ErrNotExist):
		return errors.New("is missing from the transit rule set")
	case err != nil:
		return err
	case len(want) == 0 && of.expires && 0 < got.expires && got.expires <= slack:
		return nil // it is about to end
	case len(want) == 0:
		return fmt.Errorf("leads to %q and should not be there", got.goTo)
	}
	return got.compare(want[0], slack)
}

// compare tells in what the kernel's element is not e, which may end later by slack.
func (k kernelElement) compare(e element, slack time.Duration) error {
	if !bytes.Equal(k.key, e.key) || k.goTo != e.goTo || k.mark != e.mark || e.goTo != "" && k.verdict != e.kind() || k.comment != e.comment {
		return fmt.Errorf("leads to %q of %s, not to %q of %s", k.goTo, k.comment, e.goTo, e.comment)
	}
	if e.timeout > 0 && (k.expires <= 0 || k.expires > e.timeout+slack) {
		return fmt.Errorf("ends in %v, not in %v", k.expires, e.timeout)
	}
	return nil
}

func (r reader) verifyGone(s Seat) error {
	for _, set := range seatSetsEmpty {
		for _, e := range s.possible(set) {
			if err := r.verifyElement(set, e.key, nil); err != nil {
				return fmt.Errorf("%s of %s: %w", set.name, s.Link, err)
			}
		}
	}
	return nil
}

// verifyRuleSet compares a policy's chains and sets, rule by rule and range by range.
func (r reader) verifyRuleSet(p ruleSet) error {
	for _, c := range p.chains() {
		got, err := r.chain(transitTable, c.name)
		if err != nil {
			return err
		}
		if err := c.compare(got); err != nil {
			return fmt.Errorf("chain %s %w", c.name, err)
		}
	}
	for _, s := range p.sets() {
		elements, err := r.elements(transitTable, s.name)
		if err != nil {
			return err
		}
		if err := s.compareElements(elements); err != nil {
			return fmt.Errorf("set %s %w", s.name, err)
		}
	}
	return nil
}

// verifyBase compares what no sandbox changes.
func (r reader) verifyBase(b Base) error {
	t := transit(b, nil, 0)
	if err := r.compare(neighbours()); err != nil {
		return err
	}
	for _, c := range t.chains {
		got, err := r.chain(t, c.name)
		if err != nil {
			return err
		}
		if err := c.compare(got); err != nil {
			return fmt.Errorf("chain %s %w", c.name, err)
		}
	}
	sets, err := r.sets(t)
	if err != nil {
		return err
	}
	for _, s := range t.sets {
		got, ok := sets[s.name]
		if !ok {
			return fmt.Errorf("set %s is missing", s.name)
		}
		if err := s.compare(got); err != nil {
			return fmt.Errorf("set %s %w", s.name, err)
		}
	}
	for _, s := range baseSets(b) {
		if s.dynamic {
			continue
		}
		elements, err := r.elements(t, s.name)
		if err != nil {
			return err
		}
		if err := s.compareElements(elements); err != nil {
			return fmt.Errorf("set %s %w", s.name, err)
		}
	}
	return nil
}

// chainHead is a chain without its rules; nil: there is none.
func (r reader) chainHead(t table, name string) (*kernelChain, error) {
	replies, err := r.ask(unix.NFT_MSG_GETCHAIN, netlink.Request, t.family, text(unix.NFTA_CHAIN_TABLE, t.name), text(unix.NFTA_CHAIN_NAME, name))
	if errors.Is(err, os.ErrNotExist) || err == nil && len(replies) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read chain %s: %w", name, err)
	}
	c, err := decodeChain(replies[0])
	if err != nil {
		return nil, fmt.Errorf("read chain %s: %w", name, err)
	}
	return c, nil
}

// chain with its rules; nil: there is none.
func (r reader) chain(t table, name string) (*kernelChain, error) {
	c, err := r.chainHead(t, name)
	if c == nil || err != nil {
		return nil, err
	}
	if err := r.rules(t, map[string]*kernelChain{name: c}, text(unix.NFTA_RULE_CHAIN, name)); err != nil {
		return nil, fmt.Errorf("read chain %s: %w", name, err)
	}
	return c, nil
}

// linkOf a key that begins with a link's name.
func linkOf(key []byte) string {
	if len(key) < unix.IFNAMSIZ {
		return ""
	}
	return strings.TrimRight(string(key[:unix.IFNAMSIZ]), "\x00")
}
