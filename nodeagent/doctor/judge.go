package doctor

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"
	"sync"
)

// Places where something can be seen. A sandbox's own place begins with inbox.
const (
	atHost     = "the node's link in the host"
	atAnswer   = "the node's link, as an answer of the host"
	atUplink   = "an uplink of the host"
	atListener = "a listener on the host"
	atTransit  = "a listener in the transit namespace"
	inbox      = "the link of sandbox "
)

// judge remembers which markers were seen where, and nothing else: its memory is
// bounded by what the doctor itself sent.
type judge struct {
	prefix []byte // what begins every marker of this run

	mu   sync.Mutex
	next int
	seen map[int]map[string]bool // guarded by mu
	dial map[dialled][]int       // guarded by mu
}

// dialled knows a packet of TCP or UDP that carries no marker.
type dialled struct {
	proto byte
	from  netip.Addr
	to    netip.AddrPort
}

func newJudge() *judge {
	return &judge{
		prefix: []byte("brig-doctor/" + rand.Text()[:10] + "/"),
		seen:   map[int]map[string]bool{}, dial: map[dialled][]int{},
	}
}

// marker makes a new one and its number.
func (j *judge) marker() (int, []byte) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.next++
	return j.next, fmt.Appendf(bytes.Clone(j.prefix), "%04x", j.next)
}

// watch for such a packet, and take it for the marker.
func (j *judge) watch(n int, d dialled) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.dial[d] = append(j.dial[d], n)
}

// data that was seen at a place: every marker in it was.
func (j *judge) data(place string, data []byte) {
	for {
		i := bytes.Index(data, j.prefix)
		if i < 0 {
			return
		}
		data = data[i+len(j.prefix):]
		if len(data) < 4 {
			return
		}
		if n, err := strconv.ParseUint(string(data[:4]), 16, 16); err == nil {
			j.note(int(n), place)
		}
	}
}

// frame that was seen at a place.
func (j *judge) frame(place string, data []byte) {
	j.data(place, data)
	if d, ok := dial(data); ok {
		j.mu.Lock()
		numbers := j.dial[d]
		j.mu.Unlock()
		for _, n := range numbers {
			j.note(n, place)
		}
	}
}

// dial reads addresses and port of a packet of TCP or UDP over IPv4.
func dial(f []byte) (dialled, bool) {
	if len(f) < 14+20 || binary.BigEndian.Uint16(f[12:]) != etherIPv4 {
		return dialled{}, false
	}
	ip := f[14:]
	if ip[9] != protoTCP && ip[9] != protoUDP {
		return dialled{}, false
	}
	size := int(ip[0]&15) * 4
	if len(ip) < size+4 || binary.BigEndian.Uint16(ip[6:])&0x1fff != 0 {
		return dialled{}, false
	}
	if ip[9] == protoTCP && (len(ip) < size+14 || ip[size+13]&flagRST != 0) {
		return dialled{}, false // a refusal is nobody's answer
	}
	to := netip.AddrPortFrom(netip.AddrFrom4([4]byte(ip[16:20])), binary.BigEndian.Uint16(ip[size+2:]))
	return dialled{proto: ip[9], from: netip.AddrFrom4([4]byte(ip[12:16])), to: to}, true
}

func (j *judge) note(n int, place string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if n > j.next {
		return // no marker of ours
	}
	if j.seen[n] == nil {
		j.seen[n] = map[string]bool{}
	}
	j.seen[n][place] = true
}

// saw tells at which of the places a marker was seen first, in their order; "" at none.
func (j *judge) saw(n int, places []string) string {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, p := range places {
		if j.seen[n][p] {
			return p
		}
	}
	return ""
}
