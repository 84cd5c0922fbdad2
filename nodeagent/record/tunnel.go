package record

// Kind is what a tunnel speaks to the outside.
type Kind string

// The kinds of tunnels.
const (
	TLS Kind = "tls" // TLS ended by brigd, http/1.1 by ALPN
	H2  Kind = "h2"  // TLS ended by brigd, h2 only by ALPN
	TCP Kind = "tcp" // raw
)

// Port asks for a tunnel to a port of the sandbox.
type Port struct {
	Sandbox uint16 `json:"sandbox"`
	Kind    Kind   `json:"kind"`
}

// Tunnel is a Port and the node's port that leads to it.
type Tunnel struct {
	Port
	Listen uint16 `json:"listen"`
}

// Tunnel returns the tunnel to a port of the sandbox.
func (r *Record) Tunnel(port uint16) (Tunnel, bool) {
	for _, t := range r.Tunnels {
		if t.Sandbox == port {
			return t, true
		}
	}
	return Tunnel{}, false
}
