package nft

import (
	"fmt"
	"net/netip"
	"time"
)

// Pin is an address that a sandbox knows by a name that its policy has.
type Pin struct {
	Addr netip.Addr // IPv4
	Port uint16     // of TCP
	TTL  time.Duration
}

// namePort is where the handshake tells the name: connections to it go through the node's
// proxy, which asks for it. To other ports a pin admits them as they are.
const namePort = 443

// MaxPins of one sandbox at once.
const MaxPins = 4096

// Pin admits new connections of the link's sandbox to these addresses and ports, until
// their TTL has passed and as long as the generation is the one in force. One that is
// pinned already lives on with the new TTL.
func (r Rules) Pin(link string, generation uint64, pins []Pin) error {
	elements := map[string][]element{}
	for _, p := range pins {
		set, e, err := p.element(link, generation)
		if err != nil {
			return err
		}
		elements[set.name] = append(elements[set.name], e)
	}
	err := r.change(noIntent, func(b *batch, kernel reader) error {
		for _, set := range pinSets {
			for _, e := range elements[set.name] {
				// An element's time cannot be changed, so it makes way for itself.
				if _, err := kernel.element(transitTable, set.name, e.key); err == nil {
					if err := b.deleteElements(transitTable, set, []element{e}); err != nil {
						return err
					}
				}
			}
			if err := b.addElements(transitTable, set, elements[set.name]); err != nil {
				return err
			}
		}
		return nil
	}, func(kernel reader) error {
		for _, set := range pinSets {
			for _, e := range elements[set.name] {
				if err := kernel.verifyElement(set, e.key, []element{e}); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("pin addresses for %s: %w", link, err)
	}
	return nil
}

func (p Pin) element(link string, generation uint64) (set, element, error) {
	if !p.Addr.Is4() || p.Port == 0 || p.TTL < time.Second || generation == 0 {
		return set{}, element{}, fmt.Errorf("pin %s port %d for %v: want an IPv4 address, a port and a second or more", p.Addr, p.Port, p.TTL)
	}
	at, e := pinSet, pinElement(link, p.Addr, p.Port)
	e.mark = Grant{Generation: generation}.mark()
	if p.Port == namePort {
		at, e = sniSet, sniElement(link, p.Addr)
	}
	e.timeout = p.TTL
	return at, e, nil
}

// Pins of a link, with the time that they have left.
func (r Rules) Pins(link string) (pins []Pin, err error) {
	reader, err := openReader(r.path)
	if err != nil {
		return nil, err
	}
	defer reader.Close()
	for i, set := range pinSets {
		all, err := reader.elements(transitTable, set.name)
		if err != nil {
			return nil, err
		}
		for _, e := range all {
			if linkOf(e.key) != link || len(e.key) < 20 {
				continue
			}
			p := Pin{Addr: netip.AddrFrom4([4]byte(e.key[16:20])), Port: namePort, TTL: e.expires}
			if i == 1 && len(e.key) >= 22 {
				p.Port = uint16(e.key[20])<<8 | uint16(e.key[21])
			}
			pins = append(pins, p)
		}
	}
	return pins, nil
}
