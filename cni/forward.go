package cni

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"brig/internal/config"
)

// Forwarding tells whether the host's other software drops what the node lets through:
// docker and firewalld do, unless told of the node's link. The error is one line with
// the remedy. It sees nftables, and iptables where that speaks nftables underneath; it
// judges by whether any rule of the table that drops names the link.
func Forwarding(cfg *config.Config) error {
	chains, err := nftChains()
	if err != nil {
		return fmt.Errorf("read the host's packet filter: %w", err)
	}
	for _, c := range chains {
		if c.table == cfg.HostTable() || !c.forwards() || !c.drops() {
			continue
		}
		named, err := c.tableNames(cfg.HostLink())
		if err != nil {
			return fmt.Errorf("read the host's packet filter: %w", err)
		}
		if !named {
			return fmt.Errorf("the host's packet filter drops what sandboxes send and receive (table %s %s, chain %s); let it pass: %s",
				c.familyName(), c.table, c.name, c.remedy(cfg.HostLink(), chains))
		}
	}
	return nil
}

// nftChain as the kernel lists it.
type nftChain struct {
	family       uint8
	table, name  string
	hook, policy uint32 // without a hook, none and accept
}

// The kernel's numbers, of linux/netfilter/nf_tables.h.
const (
	nftGetChain, nftGetRule                                     = 4, 7
	nftTable, nftChainName, nftChainHook, nftChainPolicy        = 1, 3, 4, 5
	nftHookNumber, hookForward, noHook                          = 1, 2, 0xffffffff
	nftRuleExpressions                                          = 4
	policyDrop, policyAccept                             uint32 = 0, 1
)

func nftChains() ([]nftChain, error) {
	list, err := nftDump(nftGetChain, unix.AF_UNSPEC)
	if err != nil {
		return nil, err
	}
	var chains []nftChain
	for _, m := range list {
		c := nftChain{family: m.family, hook: noHook, policy: policyAccept}
		for _, a := range m.attrs {
			switch a.Attr.Type & nl.NLA_TYPE_MASK {
			case nftTable:
				c.table = nl.BytesToString(a.Value)
			case nftChainName:
				c.name = nl.BytesToString(a.Value)
			case nftChainPolicy:
				c.policy = binary.BigEndian.Uint32(a.Value)
			case nftChainHook:
				inner, err := nl.ParseRouteAttr(a.Value)
				if err != nil {
					return nil, err
				}
				for _, b := range inner {
					if b.Attr.Type&nl.NLA_TYPE_MASK == nftHookNumber {
						c.hook = binary.BigEndian.Uint32(b.Value)
					}
				}
			}
		}
		chains = append(chains, c)
	}
	return chains, nil
}

func (c nftChain) forwards() bool {
	return c.hook == hookForward && slices.Contains([]uint8{unix.NFPROTO_INET, unix.NFPROTO_IPV4}, c.family)
}

// drops tells whether what no rule of the chain names is lost. firewalld's ends in a
// rule that refuses everything.
func (c nftChain) drops() bool {
	return c.policy == policyDrop || c.table == "firewalld" && strings.HasPrefix(c.name, "filter_FORWARD")
}

// tableNames tells whether a rule of the chain's table has the link's name in it.
func (c nftChain) tableNames(link string) (bool, error) {
	list, err := nftDump(nftGetRule, c.family)
	if err != nil {
		return false, err
	}
	for _, m := range list {
		ours := false
		for _, a := range m.attrs {
			switch a.Attr.Type & nl.NLA_TYPE_MASK {
			case nftTable:
				ours = nl.BytesToString(a.Value) == c.table
			case nftRuleExpressions:
				if ours && bytes.Contains(a.Value, append([]byte(link), 0)) {
					return true, nil
				}
			}
		}
	}
	return false, nil
}

func (c nftChain) familyName() string {
	if c.family == unix.NFPROTO_INET {
		return "inet"
	}
	return "ip"
}

// remedy is one line for a shell.
func (c nftChain) remedy(link string, all []nftChain) string {
	if c.table == "firewalld" {
		return fmt.Sprintf("firewall-cmd --permanent --zone=trusted --add-interface=%s && firewall-cmd --reload", link)
	}
	if c.family == unix.NFPROTO_IPV4 && c.table == "filter" && c.name == "FORWARD" {
		chain := "FORWARD"
		if slices.ContainsFunc(all, func(o nftChain) bool { return o.family == c.family && o.table == c.table && o.name == "DOCKER-USER" }) {
			chain = "DOCKER-USER"
		}
		return fmt.Sprintf("iptables -I %[1]s -i %[2]s -j ACCEPT && iptables -I %[1]s -o %[2]s -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT", chain, link)
	}
	return fmt.Sprintf(`nft 'insert rule %[1]s %[2]s %[3]s iifname "%[4]s" accept; insert rule %[1]s %[2]s %[3]s oifname "%[4]s" ct state established,related accept'`,
		c.familyName(), c.table, c.name, link)
}

type nftMessage struct {
	family uint8
	attrs  []syscall.NetlinkRouteAttr
}

// nftDump lists one kind of object of a family; AF_UNSPEC: of all.
func nftDump(kind int, family uint8) ([]nftMessage, error) {
	req := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|kind, unix.NLM_F_DUMP)
	req.AddData(&nl.Nfgenmsg{NfgenFamily: family, Version: nl.NFNETLINK_V0})
	list, err := req.Execute(unix.NETLINK_NETFILTER, 0)
	if err != nil {
		return nil, err
	}
	var all []nftMessage
	for _, m := range list {
		if len(m) < nl.SizeofNfgenmsg {
			continue
		}
		attrs, err := nl.ParseRouteAttr(m[nl.SizeofNfgenmsg:])
		if err != nil {
			return nil, err
		}
		all = append(all, nftMessage{m[0], attrs})
	}
	return all, nil
}
