package runsc

import (
	"bytes"
	"context"
	"encoding/json"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Usage is the sentry's own account. It is not trusted: a compromised sentry says what
// it likes.
type Usage struct {
	Tasks  uint64            // threads of the container's programs
	Memory uint64            // of the container; without accounts of their own, containers share it equally
	CPU    map[string]uint64 // nanoseconds by container, of programs that have not been waited for in vain
}

// Usage of the container id; its CPU has all containers of the sandbox.
func (c *Control) Usage(ctx context.Context, id string) (Usage, error) {
	var out struct {
		Event struct {
			Data struct {
				Memory struct {
					Usage struct {
						Usage uint64 `json:"usage"`
					} `json:"usage"`
				} `json:"memory"`
				Pids struct {
					Current uint64 `json:"current"`
				} `json:"pids"`
			} `json:"data"`
		} `json:"event"`
		ContainerUsage map[string]uint64 `json:"containerUsage"`
	}
	err := c.call(ctx, "containerManager.Event", &id, &out)
	data := out.Event.Data
	return Usage{Tasks: data.Pids.Current, Memory: data.Memory.Usage.Usage, CPU: out.ContainerUsage}, err
}

// Processes of the container id, by their pids in the sandbox's root namespace.
func (c *Control) Processes(ctx context.Context, id string) (pids []int32, err error) {
	var out []struct {
		PID int32 `json:"pid"`
	}
	err = c.call(ctx, "containerManager.Processes", &id, &out)
	for _, p := range out {
		pids = append(pids, p.PID)
	}
	return pids, err
}

// Update has runsc change the limits of sandbox id. Under systemd's cgroup driver the
// limits are also properties of a unit, from which systemd renews them at times of its
// own; only runsc tells it.
func (r *Runsc) Update(ctx context.Context, id, bundle string, limits *specs.LinuxResources) error {
	data, err := json.Marshal(limits)
	if err != nil {
		return err
	}
	cmd := r.command(ctx, bundle, "update", id, "--resources=-")
	cmd.Stdin = bytes.NewReader(data)
	return r.run(ctx, cmd, "update", id, bundle)
}
