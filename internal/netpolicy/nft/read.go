package nft

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// reader asks the kernel what it has. It decodes by itself and takes nothing that it
// does not know for granted: an answer with an unknown part is an error, never an
// answer without it.
type reader struct {
	*netlink.Conn
	socket *socket
	failed *bool
}

// openReader in the namespace at path, or the caller's own for "".
func openReader(path string) (reader, error) {
	s, err := takeSocket(path, false)
	return reader{Conn: s.conn(), socket: s, failed: new(bool)}, err
}

func (s *socket) conn() *netlink.Conn {
	if s == nil {
		return nil
	}
	return s.reads
}

// Close gives the reader up.
func (r reader) Close() { putSocket(r.socket, *r.failed) }

const dump = netlink.Request | netlink.Dump

// ask sends one message about a table and returns the payloads of the answers.
func (r reader) ask(kind int, flags netlink.HeaderFlags, family nftables.TableFamily, attrs ...netlink.Attribute) ([][]byte, error) {
	data, err := netlink.MarshalAttributes(attrs)
	if err != nil {
		return nil, err
	}
	const header = 4 // nfgenmsg: family, version, and who knows
	replies, err := r.Execute(netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | kind), Flags: flags},
		Data:   append([]byte{byte(family), unix.NFNETLINK_V0, 0, 0}, data...),
	})
	if err != nil {
		*r.failed = *r.failed || !errors.Is(err, os.ErrNotExist)
		return nil, err
	}
	var payloads [][]byte
	for _, m := range replies {
		if len(m.Data) < header {
			return nil, errors.New("an answer of netlink is cut short")
		}
		if family != nftables.TableFamilyUnspecified && m.Data[0] != byte(family) {
			continue
		}
		payloads = append(payloads, m.Data[header:])
	}
	return payloads, nil
}

func text(kind uint16, s string) netlink.Attribute {
	return netlink.Attribute{Type: kind, Data: append([]byte(s), 0)}
}

// each attribute of a list.
func each(data []byte, fn func(ad *netlink.AttributeDecoder) error) error {
	ad, err := netlink.NewAttributeDecoder(data)
	if err != nil {
		return err
	}
	ad.ByteOrder = binary.BigEndian
	for ad.Next() {
		if err := fn(ad); err != nil {
			return err
		}
	}
	return ad.Err()
}

// generation counts the changes of a namespace's rules, whoever makes them.
func (r reader) generation() (n uint32, err error) {
	replies, err := r.ask(unix.NFT_MSG_GETGEN, netlink.Request, nftables.TableFamilyUnspecified)
	if err != nil {
		return 0, fmt.Errorf("ask for the rules' generation: %w", err)
	}
	for _, data := range replies {
		err = errors.Join(err, each(data, func(ad *netlink.AttributeDecoder) error {
			if ad.Type() == unix.NFTA_GEN_ID {
				n = ad.Uint32()
			}
			return nil
		}))
	}
	if err == nil && n == 0 {
		err = errors.New("the kernel tells no generation of the rules")
	}
	return n, err
}

// chains of the table, with their rules' statements.
func (r reader) chains(t table) (map[string]*kernelChain, error) {
	replies, err := r.ask(unix.NFT_MSG_GETCHAIN, dump, t.family)
	if err != nil {
		return nil, fmt.Errorf("list chains: %w", err)
	}
	chains := map[string]*kernelChain{}
	for _, data := range replies {
		c, err := decodeChain(data)
		if err != nil {
			return nil, fmt.Errorf("read a chain: %w", err)
		}
		if c.table == t.name {
			chains[c.name] = c
		}
	}
	return chains, r.rules(t, chains)
}

// rules of the table's chains, or with attributes that choose among them of some, in the
// order in which they stand.
func (r reader) rules(t table, of map[string]*kernelChain, attrs ...netlink.Attribute) error {
	replies, err := r.ask(unix.NFT_MSG_GETRULE, dump, t.family, append(attrs, text(unix.NFTA_RULE_TABLE, t.name))...)
	if err != nil {
		return fmt.Errorf("list rules: %w", err)
	}
	for _, data := range replies {
		at, exprs, err := decodeRule(byte(t.family), data)
		if err != nil {
			return fmt.Errorf("read a rule: %w", err)
		}
		if c := of[at.chain]; at.table == t.name && c != nil {
			c.rules = append(c.rules, exprs)
		}
	}
	return nil
}

type kernelChain struct {
	table, name, kind string
	hooked            bool
	at                uint32
	priority          int32
	policy            uint32
	use               uint32 // by its own rules, and by whatever leads to it
	rules             [][]expr.Any
}

func decodeChain(data []byte) (*kernelChain, error) {
	c := &kernelChain{}
	err := each(data, func(ad *netlink.AttributeDecoder) error {
		switch ad.Type() {
		case unix.NFTA_CHAIN_TABLE:
			c.table = ad.String()
		case unix.NFTA_CHAIN_NAME:
			c.name = ad.String()
		case unix.NFTA_CHAIN_TYPE:
			c.kind = ad.String()
		case unix.NFTA_CHAIN_POLICY:
			c.policy = ad.Uint32()
		case unix.NFTA_CHAIN_USE:
			c.use = ad.Uint32()
		case unix.NFTA_CHAIN_HOOK:
			c.hooked = true
			return each(ad.Bytes(), func(ad *netlink.AttributeDecoder) error {
				switch ad.Type() {
				case unix.NFTA_HOOK_HOOKNUM:
					c.at = ad.Uint32()
				case unix.NFTA_HOOK_PRIORITY:
					c.priority = int32(ad.Uint32())
				}
				return nil
			})
		}
		return nil
	})
	return c, err
}

type place struct{ table, chain string }

func decodeRule(family byte, data []byte) (of place, exprs []expr.Any, err error) {
	err = each(data, func(ad *netlink.AttributeDecoder) error {
		switch ad.Type() {
		case unix.NFTA_RULE_TABLE:
			of.table = ad.String()
		case unix.NFTA_RULE_CHAIN:
			of.chain = ad.String()
		case unix.NFTA_RULE_EXPRESSIONS:
			return each(ad.Bytes(), func(ad *netlink.AttributeDecoder) error {
				e, err := decodeExpr(family, ad.Bytes())
				exprs = append(exprs, e)
				return err
			})
		}
		return nil
	})
	return of, exprs, err
}

// known expressions, by the kernel's names. One that is not here stands in no rule of
// brig's.
var known = map[string]func() expr.Any{
	"meta": func() expr.Any { return &expr.Meta{} }, "cmp": func() expr.Any { return &expr.Cmp{} },
	"payload": func() expr.Any { return &expr.Payload{} }, "lookup": func() expr.Any { return &expr.Lookup{} },
	"bitwise": func() expr.Any { return &expr.Bitwise{} }, "ct": func() expr.Any { return &expr.Ct{} },
	"fib": func() expr.Any { return &expr.Fib{} }, "counter": func() expr.Any { return &expr.Counter{} },
	"immediate": func() expr.Any { return &expr.Immediate{} }, "reject": func() expr.Any { return &expr.Reject{} },
	"dynset": func() expr.Any { return &expr.Dynset{} }, "log": func() expr.Any { return &expr.Log{} },
	"limit": func() expr.Any { return &expr.Limit{} }, "connlimit": func() expr.Any { return &expr.Connlimit{} },
	"nat": func() expr.Any { return &expr.NAT{} }, "masq": func() expr.Any { return &expr.Masq{} },
}

func decodeExpr(family byte, data []byte) (e expr.Any, err error) {
	var name string
	var body []byte
	err = each(data, func(ad *netlink.AttributeDecoder) error {
		switch ad.Type() {
		case unix.NFTA_EXPR_NAME:
			name = ad.String()
		case unix.NFTA_EXPR_DATA:
			body = ad.Bytes()
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	empty, ok := known[name]
	if !ok {
		return nil, fmt.Errorf("unknown expression %q", name)
	}
	e = empty()
	if err := expr.Unmarshal(family, body, e); err != nil {
		return nil, fmt.Errorf("expression %s: %w", name, err)
	}
	if ct, ok := e.(*expr.Ct); ok { // of which the library reads the destination alone
		err := each(body, func(ad *netlink.AttributeDecoder) error {
			if ad.Type() == unix.NFTA_CT_SREG {
				ct.Register, ct.SourceRegister = ad.Uint32(), true
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("expression %s: %w", name, err)
		}
	}
	if i, ok := e.(*expr.Immediate); ok && i.Register == unix.NFT_REG_VERDICT {
		e = &expr.Verdict{}
		if err := expr.Unmarshal(family, body, e); err != nil {
			return nil, fmt.Errorf("verdict: %w", err)
		}
	}
	return e, nil
}

// sets of the table, by name, without their elements.
func (r reader) sets(t table) (map[string]kernelSet, error) {
	replies, err := r.ask(unix.NFT_MSG_GETSET, dump, t.family, text(unix.NFTA_SET_TABLE, t.name))
	if err != nil {
		return nil, fmt.Errorf("list sets: %w", err)
	}
	sets := map[string]kernelSet{}
	for _, data := range replies {
		var s kernelSet
		err := each(data, func(ad *netlink.AttributeDecoder) error {
			switch ad.Type() {
			case unix.NFTA_SET_TABLE:
				s.table = ad.String()
			case unix.NFTA_SET_NAME:
				s.name = ad.String()
			case unix.NFTA_SET_FLAGS:
				s.flags = ad.Uint32()
			case unix.NFTA_SET_KEY_LEN:
				s.keyLen = ad.Uint32()
			case unix.NFTA_SET_TIMEOUT:
				s.timeout = time.Duration(ad.Uint64()) * time.Millisecond
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("read a set: %w", err)
		}
		if s.table == t.name {
			sets[s.name] = s
		}
	}
	return sets, nil
}

type kernelSet struct {
	table, name   string
	flags, keyLen uint32
	timeout       time.Duration
}

// kernelElement as it is stored: both ends of an interval are elements.
type kernelElement struct {
	key     []byte
	end     bool
	goTo    string
	verdict int32
	mark    uint32
	expires time.Duration
	comment string
}

// elements of a set, all of them.
func (r reader) elements(t table, name string) ([]kernelElement, error) {
	return r.getElements(dump, t, name)
}

// element of a set with that key; os.ErrNotExist: there is none.
func (r reader) element(t table, name string, key []byte) (kernelElement, error) {
	value, err := netlink.MarshalAttributes([]netlink.Attribute{{Type: unix.NFTA_DATA_VALUE, Data: key}})
	if err != nil {
		return kernelElement{}, err
	}
	wanted, err := netlink.MarshalAttributes([]netlink.Attribute{{Type: unix.NLA_F_NESTED | unix.NFTA_SET_ELEM_KEY, Data: value}})
	if err != nil {
		return kernelElement{}, err
	}
	list, err := netlink.MarshalAttributes([]netlink.Attribute{{Type: unix.NLA_F_NESTED | unix.NFTA_LIST_ELEM, Data: wanted}})
	if err != nil {
		return kernelElement{}, err
	}
	found, err := r.getElements(netlink.Request, t, name, netlink.Attribute{Type: unix.NLA_F_NESTED | unix.NFTA_SET_ELEM_LIST_ELEMENTS, Data: list})
	if err != nil {
		return kernelElement{}, err
	}
	if len(found) != 1 {
		return kernelElement{}, fmt.Errorf("set %s: %d elements of one key", name, len(found))
	}
	return found[0], nil
}

func (r reader) getElements(flags netlink.HeaderFlags, t table, name string, attrs ...netlink.Attribute) (all []kernelElement, err error) {
	attrs = append([]netlink.Attribute{text(unix.NFTA_SET_ELEM_LIST_TABLE, t.name), text(unix.NFTA_SET_ELEM_LIST_SET, name)}, attrs...)
	replies, err := r.ask(unix.NFT_MSG_GETSETELEM, flags, t.family, attrs...)
	if err != nil {
		return nil, fmt.Errorf("read set %s: %w", name, err)
	}
	for _, data := range replies {
		err := each(data, func(ad *netlink.AttributeDecoder) error {
			if ad.Type() != unix.NFTA_SET_ELEM_LIST_ELEMENTS {
				return nil
			}
			return each(ad.Bytes(), func(ad *netlink.AttributeDecoder) error {
				e, err := decodeElement(ad.Bytes())
				all = append(all, e)
				return err
			})
		})
		if err != nil {
			return nil, fmt.Errorf("read set %s: %w", name, err)
		}
	}
	return all, nil
}

func decodeElement(data []byte) (e kernelElement, err error) {
	err = each(data, func(ad *netlink.AttributeDecoder) error {
		switch ad.Type() {
		case unix.NFTA_SET_ELEM_KEY:
			return each(ad.Bytes(), func(ad *netlink.AttributeDecoder) error {
				if ad.Type() == unix.NFTA_DATA_VALUE {
					e.key = ad.Bytes()
				}
				return nil
			})
		case unix.NFTA_SET_ELEM_FLAGS:
			flags := ad.Uint32()
			e.end = flags&unix.NFT_SET_ELEM_INTERVAL_END != 0
			if flags&^unix.NFT_SET_ELEM_INTERVAL_END != 0 {
				return fmt.Errorf("an element with flags %#x", flags)
			}
		case unix.NFTA_SET_ELEM_EXPIRATION:
			e.expires = time.Duration(ad.Uint64()) * time.Millisecond
		case unix.NFTA_SET_ELEM_USERDATA:
			e.comment, _ = userdata.GetString(ad.Bytes(), userdata.NFTNL_UDATA_SET_ELEM_COMMENT)
		case unix.NFTA_SET_ELEM_DATA:
			return each(ad.Bytes(), func(ad *netlink.AttributeDecoder) error {
				if b := ad.Bytes(); ad.Type() == unix.NFTA_DATA_VALUE && len(b) == 4 {
					e.mark = binary.NativeEndian.Uint32(b)
					return nil
				}
				if ad.Type() != unix.NFTA_DATA_VERDICT {
					return errors.New("an element that leads to neither a verdict nor a mark")
				}
				return each(ad.Bytes(), func(ad *netlink.AttributeDecoder) error {
					switch ad.Type() {
					case unix.NFTA_VERDICT_CODE:
						e.verdict = int32(ad.Uint32())
					case unix.NFTA_VERDICT_CHAIN:
						e.goTo = ad.String()
					}
					return nil
				})
			})
		}
		return nil
	})
	return e, err
}
