package nft

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"

	"github.com/google/nftables"

	"brig/internal/netns"
)

// Host describes the node's table in the host's namespace.
type Host struct {
	Table string       // its name, family inet
	Link  string       // the node's veth
	Pool  netip.Prefix // sandbox addresses
	Pool6 netip.Prefix // invalid: no IPv6
	// Trust is the file that notes when the table was compared last; it goes with the
	// machine's run. Empty: it is compared each time.
	Trust string
}

// table does source NAT, and is a second wall before the node's own services.
func (h Host) table() table {
	post := []rule{all(saddr4.within(h.Pool), notTo(h.Link), masquerade)}
	if h.Pool6.IsValid() {
		post = append(post, all(saddr6.within(h.Pool6), notTo(h.Link), masquerade))
	}
	return table{family: nftables.TableFamilyINet, name: h.Table, chains: []chain{
		{name: "input", hook: filter("input", nftables.ChainHookInput, -10, false), rules: []rule{
			all(notFrom(h.Link), accept),
			all(isEstablished, isReply, accept),
			all(counted, drop),
		}},
		{name: "forward", hook: filter("forward", nftables.ChainHookForward, -10, false), rules: []rule{
			// What conntrack makes nothing of gets no other source address either.
			all(from(h.Link), isUnknown, counted, drop),
			all(notTo(h.Link), accept),
			all(isEstablished, accept),
			all(isRelated, accept),
			all(counted, drop),
		}},
		{name: "post", hook: at(nftables.ChainTypeNAT, "postrouting", nftables.ChainHookPostrouting, 100, false), rules: post},
	}}
}

// String is the table as the nft program reads it.
func (h Host) String() string { return h.table().String() }

// Ensure repairs the table in the caller's namespace: after a flush by anybody else it is
// not there. It tells whether it had to.
func (h Host) Ensure() (repaired bool, err error) {
	now, err := h.now()
	if err != nil {
		return false, err
	}
	notes := Rules{file: h.Trust}
	if h.Trust != "" && notes.readTrust() == now {
		return false, nil
	}
	if h.Check() != nil {
		repaired = true
		if err := h.load(); err != nil {
			return false, fmt.Errorf("load table %s: %w", h.Table, err)
		}
		if now, err = h.now(); err != nil {
			return true, err
		}
		if err := h.Check(); err != nil {
			return true, err
		}
	}
	if h.Trust == "" {
		return repaired, nil
	}
	return repaired, notes.writeTrust(now)
}

// now is what would be noted if the table were as it should be.
func (h Host) now() (trust, error) {
	inode, err := netns.ID("/proc/thread-self/ns/net")
	if err != nil {
		return trust{}, err
	}
	r, err := openReader("")
	if err != nil {
		return trust{}, err
	}
	defer r.Close()
	generation, err := r.generation()
	sum := sha256.Sum256([]byte(h.String()))
	return trust{Namespace: inode, Generation: generation, Base: hex.EncodeToString(sum[:])}, err
}

func (h Host) load() error {
	b, err := open("")
	if err != nil {
		return err
	}
	defer b.close()
	if err := b.replace(h.table()); err != nil {
		return err
	}
	return b.commit()
}

// Check tells what of the table in the caller's namespace is not as it was loaded.
func (h Host) Check() error {
	r, err := openReader("")
	if err != nil {
		return err
	}
	defer r.Close()
	if err := r.compare(h.table()); err != nil {
		return fmt.Errorf("table %s: %w", h.Table, err)
	}
	return nil
}

// RemoveHost removes the table of that name from the caller's namespace, whether it is
// there or not.
func RemoveHost(name string) error {
	b, err := open("")
	if err != nil {
		return err
	}
	defer b.close()
	b.remove(table{family: nftables.TableFamilyINet, name: name})
	if err := b.commit(); err != nil {
		return fmt.Errorf("remove table %s: %w", name, err)
	}
	return nil
}
