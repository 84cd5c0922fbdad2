package nft

import (
	"github.com/google/nftables/expr"
)

// Denials counts the packets that were denied since the rules were loaded, by reason.
func (r Rules) Denials() (map[string]uint64, error) {
	reader, err := openReader(r.path)
	if err != nil {
		return nil, err
	}
	defer reader.Close()
	counts := map[string]uint64{}
	for _, reason := range Reasons {
		c, err := reader.chain(transitTable, denialChain(reason))
		if err != nil {
			return nil, err
		}
		if c == nil || len(c.rules) == 0 {
			continue
		}
		for _, e := range c.rules[0] {
			if counter, ok := e.(*expr.Counter); ok {
				counts[reason] = counter.Packets
			}
		}
	}
	return counts, nil
}
