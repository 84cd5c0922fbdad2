package gate

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"brig/internal/config"
	"brig/internal/netns"
	"brig/internal/transit"
)

// watch of a sandbox's namespace for links that come later. It owns the namespace's
// file, and ends with end or run.
type watch struct {
	ns      *namespace
	cfg     *config.Config
	r       Request
	changes chan netlink.LinkUpdate // closed when the kernel's messages have been lost
	done    chan struct{}           // closing it ends the messages
}

// watch begins to listen, if somebody wants to know.
func (n *namespace) watch(cfg *config.Config, r Request) (*watch, error) {
	w := &watch{ns: n, cfg: cfg, r: r}
	if r.Intruded == nil {
		return w, nil
	}
	return w, w.listen()
}

func (w *watch) listen() error {
	w.changes, w.done = make(chan netlink.LinkUpdate), make(chan struct{})
	err := netns.Do(w.ns.path(), func() error { return netlink.LinkSubscribe(w.changes, w.done) })
	if err != nil {
		w.done = nil
		return fmt.Errorf("watch the sandbox's interfaces: %w", err)
	}
	return nil
}

// end closes everything. The kernel's last messages are read and dropped: whoever
// sends them must not wait for ever.
func (w *watch) end() {
	w.unlisten()
	w.ns.Close()
}

func (w *watch) unlisten() {
	if w.done == nil {
		return
	}
	close(w.done)
	go func(changes <-chan netlink.LinkUpdate) {
		for range changes {
			continue
		}
	}(w.changes)
}

// run until the sentry has ended, or a link has come that is not the node's.
func (w *watch) run(ctx context.Context) {
	defer w.end()
	for {
		select {
		case <-w.r.Gone:
			return
		case change, ok := <-w.changes:
			err := w.changed(ctx, change, !ok)
			if err != nil {
				w.tell(err)
				return
			}
		}
	}
}

// changed looks only where something could be new.
func (w *watch) changed(ctx context.Context, change netlink.LinkUpdate, lost bool) error {
	index := int(change.Index)
	switch {
	case lost:
		w.unlisten()
		if err := w.listen(); err != nil {
			return err
		}
	case change.Header.Type == unix.RTM_DELLINK: // another may get its index
		w.ns.ours = slices.DeleteFunc(w.ns.ours, func(i int) bool { return i == index })
		return nil
	case change.Flags&unix.IFF_LOOPBACK != 0, slices.Contains(w.ns.ours, index):
		return nil
	}
	return w.look(ctx)
}

func (w *watch) tell(err error) {
	select {
	case <-w.r.Gone: // and its links with it
	default:
		w.r.Intruded(err)
	}
}

// tries of a look, because links that come and go while one looks are an error.
const (
	tries     = 5
	tryPeriod = 20 * time.Millisecond
)

// look waits for whoever attaches at this moment: until the alias of a link says whose
// it is, it is nobody's.
func (w *watch) look(ctx context.Context) error {
	return transit.Locked(ctx, w.cfg, func(context.Context) error {
		var node *transit.Node
		if netns.Exists(w.cfg.TransitName()) {
			node = &transit.Node{Path: transit.Path(w.cfg)}
		}
		var found links
		var err error
		for range tries {
			if found, err = w.ns.links(node); err == nil {
				break
			}
			time.Sleep(tryPeriod)
		}
		if err == nil && len(found.foreign) > 0 {
			return refuse("interface %s came into the sandbox's network namespace and is not of brig's network: packets could go round the policy", found.foreign[0])
		}
		if err != nil {
			return err
		}
		return w.samePolicy(found.ours)
	})
}

// samePolicy refuses a link that brought a policy of its own. One without any is closed.
func (w *watch) samePolicy(links []string) error {
	first := ""
	for _, link := range links {
		s, err := transit.Records(w.cfg).Get(link)
		switch {
		case errors.Is(err, os.ErrNotExist) || err == nil && s.First == "":
			continue
		case err != nil:
			return err
		case first != "" && s.First != first:
			return refuse("interface with link %s came into the sandbox's network namespace and has another policy than the sandbox: packets could go round the policy", link)
		}
		first = s.First
	}
	return nil
}
