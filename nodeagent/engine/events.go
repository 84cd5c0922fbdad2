package engine

import (
	"context"
	"fmt"

	"github.com/containerd/containerd/api/events"
	"github.com/containerd/typeurl/v2"
)

// Event is what the engine passes on of a sandbox's life.
type Event struct {
	Sandbox string
	// OOM: the memory limit was reached. Otherwise the sandbox's program ended.
	OOM bool
}

// Events calls each for every event until ctx ends or the connection breaks. A shim
// sends them in order: what it says of memory comes before what it says of the end.
func (e *Engine) Events(ctx context.Context, each func(Event)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ns := fmt.Sprintf("namespace==%q,topic==", e.namespace)
	messages, errs := e.client.EventService().Subscribe(ctx, ns+`"/tasks/oom"`, ns+`"/tasks/exit"`)
	for {
		select {
		case m := <-messages:
			if m == nil {
				continue
			}
			v, err := typeurl.UnmarshalAny(m.Event)
			if err != nil {
				continue // of a later version; nothing that we know how to use
			}
			switch v := v.(type) {
			case *events.TaskOOM:
				each(Event{Sandbox: v.ContainerID, OOM: true})
			case *events.TaskExit:
				if v.ID == v.ContainerID {
					each(Event{Sandbox: v.ContainerID})
				}
			}
		case err := <-errs:
			return fmt.Errorf("containerd's events: %w", native(err))
		}
	}
}
