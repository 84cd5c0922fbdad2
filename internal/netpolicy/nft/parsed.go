package nft

import (
	"os"
	"sync"
	"syscall"

	"brig/internal/netpolicy"
)

// maxParsed bounds how many policies a process remembers.
const maxParsed = 64

// parsed policies by their sums, which say all of them: parsing a long list takes longer
// than all else that is done with it.
type parsed struct {
	mu   sync.Mutex
	sums map[string]netpolicy.Policy
}

var readBefore = parsed{sums: map[string]netpolicy.Policy{}}

func (c *parsed) get(sum string) (netpolicy.Policy, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p, ok := c.sums[sum]
	return p, ok
}

// put forgets any other one when there are too many.
func (c *parsed) put(sum string, p netpolicy.Policy) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for other := range c.sums {
		if len(c.sums) < maxParsed {
			break
		}
		delete(c.sums, other)
	}
	c.sums[sum] = p
}

// links counts the names of a file.
func links(info os.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(st.Nlink)
	}
	return 2 // in doubt somebody holds it
}
