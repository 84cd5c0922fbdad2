// Package view turns what brigd answers into what people and programs read: the
// structs behind --json, whose field names are a contract, and columns of text.
// Pure functions; the protocol's types come in, values and strings go out.
package view

import (
	"strings"
	"time"

	brigv1 "brig/nodeagent/api/brig/v1"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Sandbox is one sandbox under --json.
type Sandbox struct {
	ID        string            `json:"id"`
	Name      string            `json:"name,omitempty"`
	Image     string            `json:"image"`
	Argv      []string          `json:"argv"`
	Tags      map[string]string `json:"tags,omitempty"`
	State     string            `json:"state"`
	Exit      *Exit             `json:"exit,omitempty"`
	OwnerUID  uint32            `json:"owner_uid"`
	CreatedAt *time.Time        `json:"created_at,omitempty"`
	Deadline  *time.Time        `json:"deadline,omitempty"`
	// RemovedAt is when an ended one is forgotten by itself.
	RemovedAt *time.Time `json:"removed_at,omitempty"`
	Address   string     `json:"address,omitempty"`
	Network   Network    `json:"network"`
	// Generation of the network policy.
	Generation uint64    `json:"policy_generation"`
	Resources  Resources `json:"resources"`
	Tunnels    []Tunnel  `json:"tunnels"`
	// IdleTimeout is a duration, such as 1m0s; absent: never.
	IdleTimeout string  `json:"idle_timeout,omitempty"`
	Mounts      []Mount `json:"mounts,omitempty"`
	// Secrets by name.
	Secrets []string `json:"secrets,omitempty"`
	Stdin   bool     `json:"stdin,omitempty"`
	TTY     bool     `json:"tty,omitempty"`
	Paused  bool     `json:"paused,omitempty"`
	// Checkpoint that it was made from.
	Checkpoint string `json:"from_checkpoint,omitempty"`
	// GPUs by UUID.
	GPUs []string `json:"gpus,omitempty"`
}

// Mount is a bind mount, or a tmpfs if it has no source.
type Mount struct {
	Target   string `json:"target"`
	Source   string `json:"source,omitempty"`
	Writable bool   `json:"writable"`
	SizeMiB  uint64 `json:"size_mib,omitempty"`
}

// Exit is how a program or a sandbox ended.
type Exit struct {
	Code   int32      `json:"code"`
	Reason string     `json:"reason"`
	At     *time.Time `json:"at,omitempty"`
}

// Network is a policy. An allowlist that is null was not given: open.
type Network struct {
	Block   bool     `json:"block_network"`
	CIDRs   []string `json:"cidr_allowlist"`
	Domains []string `json:"domain_allowlist"`
	Inbound []string `json:"inbound_cidr_allowlist"`
	DNS     string   `json:"dns,omitempty"`
}

// Resources are the limits, and what it gets when all is wanted; zero is none.
type Resources struct {
	CPU              float64 `json:"cpu"`
	MemoryMiB        uint64  `json:"memory_mib"`
	CPURequest       float64 `json:"cpu_request,omitempty"`
	MemoryRequestMiB uint64  `json:"memory_request_mib,omitempty"`
	PIDs             uint64  `json:"pids,omitempty"`
	DiskMiB          uint64  `json:"disk_mib,omitempty"`
}

// Tunnel is one open tunnel.
type Tunnel struct {
	SandboxPort uint32 `json:"sandbox_port"`
	Kind        string `json:"kind"`
	Host        string `json:"host"`
	Port        uint32 `json:"port"`
	URL         string `json:"url"`
	// Connections that are open, and bytes since it was opened or brigd started.
	Connections uint32 `json:"connections"`
	BytesIn     uint64 `json:"bytes_in"`
	BytesOut    uint64 `json:"bytes_out"`
	// Fault is why nobody is led through it at present.
	Fault string `json:"fault,omitempty"`
}

// Image is one image of the node.
type Image struct {
	Name      string     `json:"name"`
	Digest    string     `json:"digest"`
	Size      uint64     `json:"size"`
	CreatedAt *time.Time `json:"created_at,omitempty"`
}

// OfSandbox converts a sandbox.
func OfSandbox(s *brigv1.Sandbox) Sandbox {
	v := Sandbox{
		ID: s.GetId(), Name: s.GetName(), Image: s.GetImage(), Argv: list(s.GetArgv()), Tags: s.GetTags(),
		State:     word(s.GetState().String(), "STATE_"),
		OwnerUID:  s.GetOwnerUid(),
		CreatedAt: moment(s.GetCreatedAt()), Deadline: moment(s.GetDeadline()), RemovedAt: moment(s.GetRemovedAt()),
		Address: s.GetAddress(),
		Network: ofNetwork(s.GetNetwork()), Generation: s.GetPolicyGeneration(),
		Resources: ofResources(s.GetResources()),
		Tunnels:   OfTunnels(s.GetTunnels()),
		Mounts:    each(s.GetMounts(), ofMount),
		Secrets:   s.GetSecrets(), Stdin: s.GetStdin(), TTY: s.GetTty(),
		Paused: s.GetPaused(), Checkpoint: s.GetFromCheckpoint(), GPUs: s.GetGpus(),
	}
	if d := s.GetIdleTimeout(); d != nil {
		v.IdleTimeout = d.AsDuration().String()
	}
	if s.GetExit() != nil {
		exit := OfExit(s.GetExit())
		v.Exit = &exit
	}
	return v
}

func ofResources(r *brigv1.Resources) Resources {
	return Resources{
		CPU: r.GetCpu(), MemoryMiB: r.GetMemoryMib(), CPURequest: r.GetCpuRequest(), MemoryRequestMiB: r.GetMemoryRequestMib(),
		PIDs: r.GetPids(), DiskMiB: r.GetDiskMib(),
	}
}

func ofMount(m *brigv1.Mount) Mount {
	if b := m.GetBind(); b != nil {
		return Mount{Target: m.GetTarget(), Source: b.GetSource(), Writable: b.GetWritable()}
	}
	return Mount{Target: m.GetTarget(), Writable: true, SizeMiB: m.GetTmpfs().GetSizeMib()}
}

// OfSandboxes converts a list; never nil, so that it prints as [].
func OfSandboxes(in []*brigv1.Sandbox) []Sandbox { return each(in, OfSandbox) }

// OfExit converts an exit.
func OfExit(e *brigv1.Exit) Exit {
	return Exit{Code: e.GetCode(), Reason: word(e.GetReason().String(), "REASON_"), At: moment(e.GetAt())}
}

// OfTunnel converts a tunnel.
func OfTunnel(t *brigv1.Tunnel) Tunnel {
	return Tunnel{
		SandboxPort: t.GetSandboxPort(), Kind: word(t.GetKind().String(), "TUNNEL_KIND_"),
		Host: t.GetHost(), Port: t.GetPort(), URL: t.GetUrl(),
		Connections: t.GetConnections(), BytesIn: t.GetBytesIn(), BytesOut: t.GetBytesOut(), Fault: t.GetFault(),
	}
}

// OfTunnels converts a list.
func OfTunnels(in []*brigv1.Tunnel) []Tunnel { return each(in, OfTunnel) }

// OfImage converts an image.
func OfImage(i *brigv1.Image) Image {
	return Image{Name: i.GetName(), Digest: i.GetDigest(), Size: i.GetSize(), CreatedAt: moment(i.GetCreatedAt())}
}

// OfImages converts a list.
func OfImages(in []*brigv1.Image) []Image { return each(in, OfImage) }

func each[A, B any](in []A, f func(A) B) []B {
	out := make([]B, 0, len(in))
	for _, a := range in {
		out = append(out, f(a))
	}
	return out
}

// word makes "exec_timeout" of REASON_EXEC_TIMEOUT.
func word(enum, prefix string) string { return strings.ToLower(strings.TrimPrefix(enum, prefix)) }

func moment(t *timestamppb.Timestamp) *time.Time {
	if t == nil {
		return nil
	}
	at := t.AsTime()
	return &at
}

func cidrs(l *brigv1.CidrList) []string {
	if l == nil {
		return nil
	}
	return list(l.GetCidrs())
}

func list(in []string) []string { return append([]string{}, in...) }
