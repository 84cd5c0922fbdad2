// Package network gives sandboxes their network namespaces, and is the only package
// that imports libcni. What the network is, brig-cni decides: an interface, an
// address, and a deny that stands before the policy does. Here are only the calls, and
// those that change and read the policies that stand in the transit namespace.
//
// A namespace has the sandbox's id for a name. Detach needs no more than that id,
// may be called in any half-made state, and again.
package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"

	"github.com/containernetworking/cni/libcni"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"brig/internal/config"
	"brig/internal/failpoint"
	"brig/internal/netns"
	"brig/internal/netpolicy"
	"brig/internal/transit"
)

const (
	// name of the network in the node's CNI folder.
	name = "brig"
	// device is the sandbox's interface.
	device = "eth0"
	// capability under which the plugin is told the policy.
	capability = "brig.network-policy"
)

// Network of a node. Safe for concurrent use.
type Network struct {
	cfg  *config.Config
	cni  *libcni.CNIConfig
	list *libcni.NetworkConfigList
	// attaching is held by Attach, and alone by who removes what nobody has.
	attaching sync.RWMutex
}

// Open reads the node's CNI configuration.
func Open(cfg *config.Config) (*Network, error) {
	list, err := libcni.LoadConfList(cfg.CNI.ConfDir, name)
	if err != nil {
		return nil, fmt.Errorf("read CNI network %q in %s: %w", name, cfg.CNI.ConfDir, err)
	}
	cache := filepath.Join(cfg.RunDir, "cni")
	return &Network{cfg: cfg, cni: libcni.NewCNIConfigWithCacheDir([]string{cfg.CNI.BinDir}, cache, nil), list: list}, nil
}

// Prepare makes the sandbox's namespace, not connected to anything.
func (n *Network) Prepare(id string) (path string, err error) {
	if err := netns.Create(id); err != nil {
		return "", err
	}
	failpoint.Hit("attach.netns")
	return netns.Path(id), nil
}

// Attach connects the namespace that Prepare made, under the policy. What it made before
// an error is left for Detach.
func (n *Network) Attach(ctx context.Context, id string, policy netpolicy.Policy) (netip.Addr, error) {
	return n.attach(ctx, id, map[string]any{capability: string(policy.Canonical())})
}

// AttachClosed is Attach without a policy: nothing passes until the gate binds one.
func (n *Network) AttachClosed(ctx context.Context, id string) (netip.Addr, error) {
	return n.attach(ctx, id, nil)
}

// Namespace is the path of the sandbox's network namespace.
func (n *Network) Namespace(id string) string { return netns.Path(id) }

func (n *Network) attach(ctx context.Context, id string, capabilities map[string]any) (netip.Addr, error) {
	n.attaching.RLock()
	defer n.attaching.RUnlock()
	rt := runtimeConf(id)
	rt.CapabilityArgs = capabilities
	result, err := n.cni.AddNetworkList(ctx, n.list, rt)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("connect the sandbox: %w", err)
	}
	r, err := types100.GetResult(result)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("read the plugin's answer: %w", err)
	}
	for _, ip := range r.IPs {
		if a, ok := netip.AddrFromSlice(ip.Address.IP.To4()); ok {
			return a, nil
		}
	}
	return netip.Addr{}, errors.New("the plugin gave the sandbox no IPv4 address")
}

// Detach takes the sandbox's network away. One that it does not have is no error.
func (n *Network) Detach(ctx context.Context, id string) error {
	rt := runtimeConf(id)
	if !netns.Exists(id) {
		// The namespace is made before anything else and deleted after it, so
		// without it and without libcni's note there is nothing.
		rt.NetNS = ""
		if ids, err := n.Attached(); err == nil && !slices.Contains(ids, id) {
			return netns.Delete(id)
		}
	}
	if err := n.cni.DelNetworkList(ctx, n.list, rt); err != nil {
		return fmt.Errorf("disconnect the sandbox: %w", err)
	}
	failpoint.Hit("detach.disconnected")
	return netns.Delete(id)
}

// Attached lists the sandboxes that libcni has a record of.
func (n *Network) Attached() ([]string, error) {
	cached, err := n.cni.GetCachedAttachments("")
	if err != nil {
		return nil, fmt.Errorf("list attachments: %w", err)
	}
	var ids []string
	for _, a := range cached {
		ids = append(ids, a.ContainerID)
	}
	return ids, nil
}

// Dial connects to a sandbox's port from inside the transit namespace.
func (n *Network) Dial(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	return transit.Dial(ctx, n.cfg, to)
}

func runtimeConf(id string) *libcni.RuntimeConf {
	return &libcni.RuntimeConf{ContainerID: id, NetNS: netns.Path(id), IfName: device}
}
