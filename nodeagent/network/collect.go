package network

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"

	"brig/internal/attachment"
	"brig/internal/sandbox"
	"brig/internal/transit"
)

// Collect has the plugin take away what belongs to no sandbox that live names, if there
// is such a thing. Others may use the network, too, without brigd: what they have stays.
// One of theirs that is being connected in the very instant is cut off, as by any CNI
// runtime's GC, and does not start: so the plugin is asked only when there is cause.
func (n *Network) Collect(ctx context.Context, live func() (map[string]bool, error)) error {
	stray, _, err := n.stray(ctx, live)
	if err != nil || !stray {
		return err
	}
	// Against an Attach of ours between the look and the deed.
	n.attaching.Lock()
	defer n.attaching.Unlock()
	stray, valid, err := n.stray(ctx, live)
	if err != nil || !stray {
		return err
	}
	if err := n.cni.GCNetworkList(ctx, n.list, &libcni.GCArgs{ValidAttachments: valid}); err != nil {
		return fmt.Errorf("collect attachments: %w", err)
	}
	return nil
}

// stray tells whether anything is nobody's, and which attachments are somebody's.
func (n *Network) stray(ctx context.Context, live func() (map[string]bool, error)) (stray bool, valid []types.GCAttachment, err error) {
	var l look
	err = transit.Inspect(ctx, n.cfg, func(_ context.Context, node transit.Node) error { return l.take(n.cfg, node) })
	if errors.Is(err, os.ErrNotExist) {
		return false, nil, nil
	}
	if err != nil {
		return false, nil, err
	}
	// After the look: whatever was there has a record by now, unless it is nobody's.
	ids, err := live()
	if err != nil {
		return false, nil, err
	}
	keeps := func(key attachment.Key) bool {
		_, err := sandbox.ParseID(key.ContainerID)
		return ids[key.ContainerID] || err != nil
	}
	for _, key := range l.owners {
		if key.Network == name && keeps(key) {
			valid = append(valid, types.GCAttachment{ContainerID: key.ContainerID, IfName: key.IfName})
		}
	}
	for _, h := range l.held {
		switch h.Kind {
		case "link", "lease", "policy", "identity":
			stray = stray || !ids[h.Owner]
		}
	}
	return stray, valid, nil
}
