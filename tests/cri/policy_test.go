package cri

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"brig/internal/require"
	"brig/tests/internet"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func annotated(annotations map[string]string) func(*cri.PodSandboxConfig) {
	return func(c *cri.PodSandboxConfig) { c.Annotations = annotations }
}

// TestPolicy is the pod's network policy, against a stand-in for the internet, for
// every container of the pod.
func TestPolicy(t *testing.T) {
	require.Net(t)
	require.Runsc(t)
	world := internet.New(t)
	n := launch(t, world.Host)
	addresses := slices.Concat([]string{internet.Public, internet.PublicToo, internet.HostPublic}, internet.Private)
	for name, c := range map[string]struct {
		annotations map[string]string
		reach       []string
	}{
		"open":      {nil, []string{internet.Public, internet.PublicToo}},
		"allowlist": {map[string]string{"brig/cidr-allowlist": "203.0.113.0/28"}, []string{internet.Public}},
		"block":     {map[string]string{"brig/block-network": "true"}, nil},
	} {
		for _, handler := range []string{brig, brigPodsandbox} {
			t.Run(name+"/"+handler, func(t *testing.T) {
				p := n.run(t, handler, annotated(c.annotations))
				for _, name := range []string{"one", "two"} {
					var probe strings.Builder
					for _, a := range addresses {
						fmt.Fprintf(&probe, "(nc -w 2 %s 80 | grep -q . && echo %s) 2>/dev/null & ", a, a)
					}
					world.Arrived()
					got := strings.Fields(p.start(name, "sh", "-c", probe.String()+"wait").output())
					slices.Sort(got)
					want := slices.Sorted(slices.Values(c.reach))
					if !slices.Equal(got, want) {
						t.Errorf("container %s reached %v, want %v", name, got, want)
					}
					if arrived := world.Arrived(); len(arrived) != len(want) {
						t.Errorf("at the servers arrived %v, want %v", arrived, want)
					}
				}
				// Loopback is the pod's own whatever its policy.
				p.start("server", "sh", "-c", "echo inside | nc -l -p 7000")
				if got := p.start("client", "sh", "-c", "until nc 127.0.0.1 7000; do sleep 0.1; done").output(); got != "inside\n" {
					t.Errorf("over loopback the other container said %q", got)
				}
			})
		}
	}
}

// TestRefused pods ask for what a sandbox cannot give; each is told why.
func TestRefused(t *testing.T) {
	namespaces := func(edit func(*cri.NamespaceOption)) func(*cri.PodSandboxConfig) {
		return func(c *cri.PodSandboxConfig) { edit(c.GetLinux().GetSecurityContext().GetNamespaceOptions()) }
	}
	mapping := []*cri.IDMapping{{HostId: 100000, ContainerId: 0, Length: 65536}}
	for name, c := range map[string]struct {
		edit func(*cri.PodSandboxConfig)
		says string // or, with a pause container, whose spec says the same in other words:
		spec string
	}{
		"host network": {namespaces(func(o *cri.NamespaceOption) { o.Network = cri.NamespaceMode_NODE }), "hostNetwork", "the host's network"},
		"host pid":     {namespaces(func(o *cri.NamespaceOption) { o.Pid = cri.NamespaceMode_NODE }), "hostPID", "pid"},
		"host ipc":     {namespaces(func(o *cri.NamespaceOption) { o.Ipc = cri.NamespaceMode_NODE }), "hostIPC", "ipc"},
		"user namespace": {namespaces(func(o *cri.NamespaceOption) {
			o.UsernsOptions = &cri.UserNamespace{Mode: cri.NamespaceMode_POD, Uids: mapping, Gids: mapping}
		}), "hostUsers", "user namespace"},
		"privileged":          {func(c *cri.PodSandboxConfig) { c.Linux.SecurityContext.Privileged = true }, "privileges", ""},
		"unknown annotation":  {annotated(map[string]string{"brig/nonsense": "1"}), "brig/nonsense", ""},
		"contradiction":       {annotated(map[string]string{"brig/block-network": "true", "brig/cidr-allowlist": "9.9.9.0/24"}), "block", ""},
		"invalid cidr":        {annotated(map[string]string{"brig/cidr-allowlist": "not-a-cidr"}), "not-a-cidr", ""},
		"private destination": {annotated(map[string]string{"brig/cidr-allowlist": "10.0.0.0/8"}), "10.0.0.0/8", ""},
	} {
		t.Run(name, func(t *testing.T) {
			handlers := []string{brig, brigPodsandbox}
			if name == "privileged" { // of a pause container containerd says nothing
				handlers = []string{brig}
			}
			under(t, handlers, func(t *testing.T, n *node, handler string) {
				config := n.podConfig(t)
				c.edit(config)
				_, err := n.try(t, handler, config)
				if err == nil {
					t.Fatal("the pod runs")
				}
				want := c.says
				if handler == brigPodsandbox && c.spec != "" {
					want = c.spec
				}
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the refusal does not say %q: %v", want, err)
				}
			})
		})
	}
}

// TestForeignNetworkWithPolicy: a policy that cannot be enforced is refused.
func TestForeignNetworkWithPolicy(t *testing.T) {
	n := use(t)
	config := n.podConfig(t)
	config.Annotations = map[string]string{"brig/cidr-allowlist": "203.0.113.0/24"}
	p, err := n.try(t, brigPlain, config)
	if err == nil {
		// The gate stands before the first program, not before the pod.
		c, err := p.create(p.containerConfig("any", "true"))
		if err == nil {
			err = c.start()
		}
		if err == nil {
			t.Fatal("a container runs on a network on which its policy has no force")
		}
		return
	}
	if !strings.Contains(err.Error(), "not of brig's network") {
		t.Errorf("the refusal is: %v", err)
	}
}
