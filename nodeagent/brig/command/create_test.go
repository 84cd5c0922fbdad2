package command_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	brigv1 "brig/nodeagent/api/brig/v1"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"
)

func TestCreateSendsWhatWasSaid(t *testing.T) {
	n := &fakeNode{}
	socket := n.start(t)
	fakeImages{n}.add("img", 1)
	t.Setenv("FROM_ENV", "env")
	secretFile := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secretFile, []byte("two\nlines\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		args []string
		want *brigv1.CreateRequest
	}{
		{[]string{"img"}, &brigv1.CreateRequest{Image: "img"}},
		{[]string{"img", "--", "ls", "-l"}, &brigv1.CreateRequest{Image: "img", Argv: []string{"ls", "-l"}}},
		{[]string{"img", "ls"}, &brigv1.CreateRequest{Image: "img", Argv: []string{"ls"}}},
		{[]string{"img", "--", "a", "--", "b"}, &brigv1.CreateRequest{Image: "img", Argv: []string{"a", "--", "b"}}},
		{[]string{"img", "--cpu", "0.5", "--memory", "128", "--timeout", "90s"}, &brigv1.CreateRequest{
			Image: "img", Resources: &brigv1.Resources{Cpu: 0.5, MemoryMib: 128}, Timeout: durationpb.New(90e9)}},
		{[]string{"--name", "n", "--env", "A=b=c", "--env", "E=", "--workdir", "/w", "--tag", "k=v", "img"}, &brigv1.CreateRequest{
			Image: "img", Name: "n", Env: map[string]string{"A": "b=c", "E": ""}, Workdir: "/w", Tags: map[string]string{"k": "v"}}},
		{[]string{"--block-network", "img"}, &brigv1.CreateRequest{Image: "img", Network: &brigv1.NetworkPolicy{BlockNetwork: true}}},
		{[]string{"--no-egress", "img"}, &brigv1.CreateRequest{Image: "img", Network: &brigv1.NetworkPolicy{CidrAllowlist: &brigv1.CidrList{}}}},
		{[]string{"--cidr-allow", "203.0.113.0/24", "--cidr-allowlist", "198.51.100.0/24", "--inbound-cidr", "192.0.2.0/24", "img"},
			&brigv1.CreateRequest{Image: "img", Network: &brigv1.NetworkPolicy{
				CidrAllowlist:        &brigv1.CidrList{Cidrs: []string{"203.0.113.0/24", "198.51.100.0/24"}},
				InboundCidrAllowlist: &brigv1.CidrList{Cidrs: []string{"192.0.2.0/24"}}}}},
		{[]string{"--domain-allow", "*.example.com", "--domain-allowlist", "example.org:8443", "img"},
			&brigv1.CreateRequest{Image: "img", Network: &brigv1.NetworkPolicy{
				DomainAllowlist: &brigv1.DomainList{Domains: []string{"*.example.com", "example.org:8443"}}}}},
		{[]string{"--no-egress", "--dns", "resolver", "img"},
			&brigv1.CreateRequest{Image: "img", Network: &brigv1.NetworkPolicy{CidrAllowlist: &brigv1.CidrList{}, Dns: "resolver"}}},
		{[]string{"--port", "80", "--port", "81/h2", "--port", "82/tcp", "--port", "70000/tls", "img"}, &brigv1.CreateRequest{
			Image: "img", Ports: []*brigv1.Port{
				{SandboxPort: 80, Kind: brigv1.TunnelKind_TUNNEL_KIND_TLS}, {SandboxPort: 81, Kind: brigv1.TunnelKind_TUNNEL_KIND_H2},
				{SandboxPort: 82, Kind: brigv1.TunnelKind_TUNNEL_KIND_TCP}, {SandboxPort: 70000, Kind: brigv1.TunnelKind_TUNNEL_KIND_TLS}}}},
		{[]string{"--cpu", "2", "--cpu-request", "0.5", "--memory", "512", "--memory-request", "64", "--pids", "100", "--disk", "1024", "img"},
			&brigv1.CreateRequest{Image: "img", Resources: &brigv1.Resources{
				Cpu: 2, CpuRequest: 0.5, MemoryMib: 512, MemoryRequestMib: 64, Pids: 100, DiskMib: 1024}}},
		{[]string{"--mount", "type=bind,source=/srv/data,target=/data", "--mount", "type=bind,source=/srv/out,target=/out,rw",
			"--mount", "type=tmpfs,target=/a,size=64", "--tmpfs", "/b", "--tmpfs", "/c:8", "img"},
			&brigv1.CreateRequest{Image: "img", Mounts: []*brigv1.Mount{
				{Target: "/data", Source: &brigv1.Mount_Bind{Bind: &brigv1.BindMount{Source: "/srv/data"}}},
				{Target: "/out", Source: &brigv1.Mount_Bind{Bind: &brigv1.BindMount{Source: "/srv/out", Writable: true}}},
				{Target: "/a", Source: &brigv1.Mount_Tmpfs{Tmpfs: &brigv1.TmpfsMount{SizeMib: 64}}},
				{Target: "/b", Source: &brigv1.Mount_Tmpfs{Tmpfs: &brigv1.TmpfsMount{}}},
				{Target: "/c", Source: &brigv1.Mount_Tmpfs{Tmpfs: &brigv1.TmpfsMount{SizeMib: 8}}}}}},
		{[]string{"--secret", "A=b=c", "--secret", "FROM_ENV", "--secret-file", "FILE=" + secretFile, "img"},
			&brigv1.CreateRequest{Image: "img", Secrets: map[string]string{"A": "b=c", "FROM_ENV": "env", "FILE": "two\nlines"}}},
		{[]string{"--gpu", "2", "img"}, &brigv1.CreateRequest{Image: "img", Gpu: &brigv1.GPURequest{Count: 2}}},
		{[]string{"--gpu", "device=0,2", "--gpu-capability", "video", "img"}, &brigv1.CreateRequest{
			Image: "img", Gpu: &brigv1.GPURequest{Devices: []string{"0", "2"}, Capabilities: []string{"video"}}}},
		{[]string{"--gpu", "GPU-a,GPU-b", "--gpu", "nvidia.com/gpu=3", "--gpu", "device=GPU-d", "img"}, &brigv1.CreateRequest{
			Image: "img", Gpu: &brigv1.GPURequest{Devices: []string{"GPU-a", "GPU-b", "nvidia.com/gpu=3", "GPU-d"}}}},
		{[]string{"--idle-timeout", "1m", "--ready", "tcp:8080", "--ready-timeout", "5s", "img"}, &brigv1.CreateRequest{
			Image: "img", IdleTimeout: durationpb.New(60e9),
			Ready: &brigv1.ReadyProbe{Probe: &brigv1.ReadyProbe_TcpPort{TcpPort: 8080}, Timeout: durationpb.New(5e9)}}},
		{[]string{"--ready", "exec:test -e /up", "img"}, &brigv1.CreateRequest{Image: "img", Ready: &brigv1.ReadyProbe{
			Probe: &brigv1.ReadyProbe_Exec{Exec: &brigv1.ExecProbe{Argv: []string{"test", "-e", "/up"}}}}}},
	} {
		n.creates = nil
		got := brig(t, socket, "", append([]string{"create"}, tc.args...)...)
		if got.Status != 0 || got.Err != "" {
			t.Errorf("create %q: %+v", tc.args, got)
			continue
		}
		if diff := cmp.Diff([]*brigv1.CreateRequest{tc.want}, n.creates, protocmp.Transform()); diff != "" {
			t.Errorf("create %q sends (-want +got):\n%s", tc.args, diff)
		}
	}
}

func TestCreatePullsAMissingImage(t *testing.T) {
	n := &fakeNode{}
	socket := n.start(t)
	pulled := "pulling busybox\npulled docker.io/library/busybox:latest sha256:" + strings.Repeat("ab", 32) + " 1.2 MB\n"
	check(t, brig(t, socket, "", "create", "busybox"), result{Out: first + "\n", Err: pulled})
	check(t, brig(t, socket, "", "create", "busybox"), result{Out: "sb-0000000000000002\n"})
	check(t, brig(t, socket, "", "create", "missing"),
		result{Status: 1, Err: "pulling missing\nbrig: the registry has no image missing\n"})
}
