// Package record holds what brigd knows of a sandbox: what its owner asked for,
// checked, and what became of it. Values only, no I/O. A Request that Check has
// passed cannot be wrong in itself; whether its image exists or its name is free is
// for others to find out.
//
// A Record is what the store keeps, as JSON. Everything else on the node that
// belongs to a sandbox has a name derived from the record's ID.
package record

import (
	"net/netip"
	"time"

	"brig/internal/sandbox"
)

// Record of one sandbox.
type Record struct {
	ID      sandbox.ID    `json:"id"`
	Owner   uint32        `json:"owner"`
	Request Request       `json:"request"`
	State   sandbox.State `json:"state"`
	// Exit is set once the state is Exited.
	Exit *Exit `json:"exit,omitempty"`
	// Ended is when its end was recorded, on a clock that does not jump.
	Ended Instant `json:"ended,omitzero"`
	// Ending is why brigd is about to end it, recorded before the deed.
	Ending sandbox.Reason `json:"ending,omitempty"`
	// Clean is set once nothing but the record and the output is left of an ended
	// sandbox.
	Clean bool `json:"clean,omitempty"`
	// Paused: its programs are to stand still.
	Paused    bool       `json:"paused,omitempty"`
	CreatedAt time.Time  `json:"created_at"`
	Deadline  Deadline   `json:"deadline"`
	Address   netip.Addr `json:"address,omitzero"`
	// JournalBytes bounds each of its output streams, as the node was configured when
	// it was made.
	JournalBytes int64    `json:"journal_bytes,omitempty"`
	Tunnels      []Tunnel `json:"tunnels,omitempty"`
	// Policies are those that stand, or are being put in force, as they were written:
	// what is for good, then a lease, then what is on its way. What stands, the node's
	// own record decides.
	Policies []Written `json:"policies,omitempty"`
	// Usage until the last time that it was recorded; of an ended sandbox all of it.
	Usage Usage `json:"usage,omitzero"`
	// GPUs are the UUIDs of those allotted to it, sorted. They are its own from here on until
	// it is Clean, or forgotten.
	GPUs []string `json:"gpus,omitempty"`
	// SecretsSum tells the request's secrets from others, on the boot that it was made in.
	SecretsSum string `json:"secrets_sum,omitempty"`
}

// Deadline is when a sandbox's timeout ends it. The clock that counts is the boot's,
// which neither jumps nor stops in a suspend; Wall is for people.
type Deadline struct {
	Wall time.Time     `json:"wall"`
	Boot string        `json:"boot"` // id of the boot that At counts from
	At   time.Duration `json:"at"`
}

// Instant of the clock of one boot.
type Instant struct {
	Boot string        `json:"boot"`
	At   time.Duration `json:"at"`
}

// Exit is how a program or a sandbox ended.
type Exit struct {
	Code   int            `json:"code"`
	Reason sandbox.Reason `json:"reason"`
	At     time.Time      `json:"at"`
}

// Live tells whether the sandbox has not ended.
func (r *Record) Live() bool { return r.State == sandbox.Creating || r.State == sandbox.Running }

// Hostname is what the sandbox calls itself.
func (r *Record) Hostname() string {
	if r.Request.Name != "" {
		return r.Request.Name
	}
	return string(r.ID)
}

// End moves the record to Exited. It forgets what an ended sandbox has not.
func (r *Record) End(e Exit) error {
	state, err := r.State.Move(sandbox.Exited)
	if err != nil {
		return err
	}
	r.State, r.Exit, r.Tunnels, r.Paused = state, &e, nil, false
	return nil
}
