package command_test

import (
	"context"
	"testing"

	brigv1 "brig/nodeagent/api/brig/v1"
	"connectrpc.com/connect"
)

// Stats is of every sandbox the same.
func (n *fakeNode) Stats(_ context.Context, r *connect.Request[brigv1.StatsRequest]) (*connect.Response[brigv1.StatsResponse], error) {
	id := r.Msg.GetSandbox()
	if id != "" {
		s, err := n.find(id)
		if err != nil {
			return nil, err
		}
		id = s.GetId()
	} else {
		id = first
	}
	return connect.NewResponse(&brigv1.StatsResponse{Stats: []*brigv1.SandboxStats{{
		Sandbox: id, Name: "web", At: epoch, MemoryBytes: 20 << 20, Processes: new(uint64(1)), Usage: &brigv1.Usage{CpuNanoseconds: 15e8, TunnelBytesIn: 3},
	}}}), nil
}

func TestStats(t *testing.T) {
	_, socket := node(t)
	table := "SANDBOX              NAME  CPU  CPU TIME  MEMORY   LIMIT  PIDS  DISK  EXECS  CONNECTIONS  IN   OUT\n" +
		first + "  web   -    1.5s      21.0 MB  -      1     -     0      0            3 B  0 B\n"
	check(t, brig(t, socket, "", "stats"), result{Out: table})
	check(t, brig(t, socket, "", "stats", "--no-stream", "web"), result{Out: table})
	check(t, brig(t, socket, "", "stats", "nobody"), result{Status: 1, Err: "brig: no sandbox \"nobody\"; brig ls shows them\n"})
	check(t, brig(t, socket, "", "stats", "--json", first), result{Out: `[
  {
    "sandbox": "sb-0000000000000001",
    "name": "web",
    "at": "2030-01-02T03:04:05Z",
    "memory_bytes": 20971520,
    "memory_limit_bytes": 0,
    "processes": 1,
    "disk_bytes": null,
    "tunnel_connections": 0,
    "execs": 0,
    "usage": {
      "cpu_nanoseconds": 1500000000,
      "memory_mib_seconds": 0,
      "gpu_seconds": 0,
      "tunnel_bytes_in": 3,
      "tunnel_bytes_out": 0
    }
  }
]
`})
}
