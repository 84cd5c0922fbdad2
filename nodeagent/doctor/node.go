package doctor

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/types/known/durationpb"

	"brig/internal/attachment"
	"brig/internal/netns"
	"brig/internal/netpolicy"
	brigv1 "brig/nodeagent/api/brig/v1"
	"brig/nodeagent/brig/client"
	"brig/nodeagent/network"
)

// Marks by which a run knows what an earlier one left. Only root can have made it.
const (
	tagKey, tagValue = "brig", "doctor"
	imagePrefix      = "brig.internal/doctor:"
)

// servePort is where the sibling serves.
const servePort = 8080

// removeTimeout is how long the removal of everything may take.
const removeTimeout = time.Minute

// box is one of the doctor's sandboxes, or a place where it injects frames.
type box struct {
	name string // for people
	id   string
	path string // of its network namespace; "" is the host's
	link string // its device there
	addr netip.Addr
	// addr6 is invalid where sandboxes have no IPv6.
	addr6 netip.Addr
	// transit is the name of its link in the transit namespace.
	transit string
	tunnel  netip.AddrPort // where the sibling's port is led out; invalid: it has none
}

// node is what a run made.
type node struct {
	Options
	image   string
	network *network.Network
	six     bool // sandboxes have IPv6

	open, list, deny *box
}

// prepare makes the sandboxes: one about which nothing was said, one with a CIDR list
// that serves and has a tunnel, and an attachment that never got a policy. The node it
// returns is to be removed also with an error.
func prepare(ctx context.Context, o Options) (*node, error) {
	n := &node{Options: o}
	var err error
	if n.network, err = network.Open(o.Config); err != nil {
		return n, err
	}
	if err := n.clean(ctx); err != nil {
		return n, fmt.Errorf("remove what an earlier run left: %w", err)
	}
	if err := n.load(ctx); err != nil {
		return n, err
	}
	if err := n.askSix(ctx); err != nil {
		return n, err
	}
	allowed, err := choose(o.Config)
	if err != nil {
		return n, err
	}
	var making errgroup.Group
	making.Go(func() (err error) { n.open, err = n.create(ctx, "open", wantOpen(), nil); return err })
	making.Go(func() (err error) {
		n.list, err = n.create(ctx, "list", wantList(allowed.yes.String()), []*brigv1.Port{{SandboxPort: servePort, Kind: brigv1.TunnelKind_TUNNEL_KIND_TCP}})
		return err
	})
	making.Go(func() (err error) { n.deny, err = n.attach(ctx); return err })
	return n, making.Wait()
}

// made are the sandboxes for who weakens the node.
func (n *node) made() Made {
	of := func(b *box) Sandbox { return Sandbox{ID: b.id, Link: b.transit, Addr: b.addr} }
	return Made{Open: of(n.open), List: of(n.list), Deny: of(n.deny)}
}

// load gives brigd an image of the probe.
func (n *node) load(ctx context.Context) error {
	path := n.Probe
	if path == "" {
		path = filepath.Join(filepath.Dir(n.Config.Sandboxes.Guest), "brig-probe")
	}
	program, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read the program that tries from inside: %w", err)
	}
	ref := imagePrefix + fmt.Sprintf("%x", time.Now().UnixNano())
	data, err := archive(program, ref)
	if err != nil {
		return err
	}
	images, err := client.Import(ctx, n.Client, bytes.NewReader(data), func(uint64) {})
	if err != nil {
		return fmt.Errorf("import the probe: %w", err)
	}
	if len(images) != 1 || images[0].GetName() != ref {
		return fmt.Errorf("import the probe: brigd took it for %v", images)
	}
	n.image = ref
	return nil
}

func (n *node) create(ctx context.Context, name string, policy wanted, ports []*brigv1.Port) (*box, error) {
	res, err := n.Client.Sandboxes.Create(ctx, connect.NewRequest(&brigv1.CreateRequest{
		Image: n.image, Network: n.request(policy), Ports: ports, Tags: map[string]string{tagKey: tagValue},
		Argv: []string{probePath, "serve", fmt.Sprintf("0.0.0.0:%d", servePort), greeting},
		// Should this process die, they end by themselves.
		Timeout: durationpb.New(Timeout),
	}))
	if err != nil {
		return nil, fmt.Errorf("create a sandbox: %w", err)
	}
	s := res.Msg.GetSandbox()
	b := &box{name: name, id: s.GetId(), path: netns.Path(s.GetId()), link: device}
	if b.addr, err = netip.ParseAddr(s.GetAddress()); err != nil {
		return nil, fmt.Errorf("the address of sandbox %s: %w", b.id, err)
	}
	for _, t := range s.GetTunnels() {
		bind, err := netip.ParseAddr(n.Config.Tunnels.Bind)
		if err != nil {
			return nil, err
		}
		b.tunnel = netip.AddrPortFrom(bind, uint16(t.GetPort()))
	}
	b.transit = key(b.id).Link()
	if b.addr6, err = n.sixOf(b); err != nil {
		return nil, err
	}
	return b, n.widen(ctx, b, policy)
}

// greeting is what the sandboxes' servers say.
const greeting = "brig doctor: a sandbox"

// device is the interface of a sandbox, and cniNetwork its network.
const device, cniNetwork = "eth0", "brig"

func key(id string) attachment.Key {
	return attachment.Key{Network: cniNetwork, ContainerID: id, IfName: device}
}

// attach makes a network namespace that is connected and has no policy.
func (n *node) attach(ctx context.Context) (*box, error) {
	id := n.deniedID()
	path, err := n.network.Prepare(id)
	if err != nil {
		return nil, err
	}
	addr, err := n.network.Attach(ctx, id, netpolicy.Policy{})
	if err != nil {
		return nil, err
	}
	return &box{name: "deny", id: id, path: path, link: device, addr: addr, transit: key(id).Link()}, nil
}

// deniedID is the same in every run, so that the next one finds what a killed one left,
// and has the form of a sandbox's, so that brigd does, too.
func (n *node) deniedID() string {
	sum := sha256.Sum256([]byte("doctor of " + n.Config.Node))
	return "sb-" + strings.ToLower(base32.StdEncoding.EncodeToString(sum[:10]))
}

// exec runs the probe in a sandbox and decodes what it prints.
func (n *node) exec(ctx context.Context, b *box, result any, args ...string) error {
	res, err := n.Client.Exec.Run(ctx, connect.NewRequest(&brigv1.ExecRunRequest{
		Exec:      &brigv1.ExecSpec{Sandbox: b.id, Argv: append([]string{probePath}, args...), Timeout: durationpb.New(30 * time.Second)},
		MaxOutput: 1 << 20,
	}))
	if err != nil {
		return fmt.Errorf("run the probe in sandbox %s: %w", b.name, err)
	}
	if code := res.Msg.GetExit().GetCode(); code != 0 {
		return fmt.Errorf("the probe in sandbox %s ended with %d: %s", b.name, code, strings.TrimSpace(string(res.Msg.GetStderr())))
	}
	if err := json.Unmarshal(res.Msg.GetStdout(), result); err != nil {
		return fmt.Errorf("what the probe in sandbox %s said: %w", b.name, err)
	}
	return nil
}

// clean removes every sandbox and image of the doctor. It is called under the lock, so
// all there is belongs to nobody.
func (n *node) clean(ctx context.Context) error {
	errs := []error{n.network.Detach(ctx, n.deniedID())}
	list, err := n.Client.Sandboxes.List(ctx, connect.NewRequest(&brigv1.ListRequest{Tags: map[string]string{tagKey: tagValue}, All: true}))
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	for _, s := range list.Msg.GetSandboxes() {
		if s.GetOwnerUid() != 0 || !strings.HasPrefix(s.GetImage(), imagePrefix) {
			continue // a user's, whatever its tag says
		}
		_, err := n.Client.Sandboxes.Remove(ctx, connect.NewRequest(&brigv1.RemoveRequest{Sandbox: s.GetId(), Force: true}))
		if connect.CodeOf(err) != connect.CodeNotFound { // it may have ended by itself
			errs = append(errs, err)
		}
	}
	images, err := n.Client.Images.List(ctx, connect.NewRequest(&brigv1.ImagesListRequest{}))
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	for _, i := range images.Msg.GetImages() {
		if strings.HasPrefix(i.GetName(), imagePrefix) {
			_, err := n.Client.Images.Remove(ctx, connect.NewRequest(&brigv1.ImagesRemoveRequest{Image: i.GetName()}))
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (n *node) remove(ctx context.Context) error {
	if n.network == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, removeTimeout)
	defer cancel()
	if err := n.clean(ctx); err != nil {
		return fmt.Errorf("remove what the doctor made: %w", err)
	}
	return nil
}
