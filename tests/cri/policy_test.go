package cri

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"brig/internal/attachment"
	"brig/internal/config"
	"brig/internal/netns"
	"brig/internal/netpolicy"
	"brig/internal/require"
	"brig/internal/transit"
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
					world.Arrived()
					got := p.reach(p.containerConfig(name, "sh", "-c", probe(addresses)))
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

// probe is a program that prints those of the addresses whose server answers.
func probe(addresses []string) string {
	var script strings.Builder
	for _, a := range addresses {
		fmt.Fprintf(&script, "(nc -w 2 %s 80 | grep -q . && echo %s) 2>/dev/null & ", a, a)
	}
	return script.String() + "wait"
}

// reach runs a probe to its end and tells what it reached, sorted.
func (p *pod) reach(config *cri.ContainerConfig) []string {
	p.t.Helper()
	c, err := p.create(config)
	if err != nil {
		p.t.Fatal(err)
	}
	if err := c.start(); err != nil {
		p.t.Fatal(err)
	}
	return slices.Sorted(slices.Values(strings.Fields(c.output())))
}

// TestPolicyOfHandlers: a handler's configuration says what its pods get and what they
// may ask for; another handler's of the same node is another matter.
func TestPolicyOfHandlers(t *testing.T) {
	require.Net(t)
	require.Runsc(t)
	world := internet.New(t)
	n := launch(t, world.Host)
	targets := []string{internet.Public, internet.PublicToo}
	for _, c := range []struct {
		name, handler string
		annotations   map[string]string
		image         string
		reach         []string
		refused       string
	}{
		{name: "nothing said", handler: brigNarrow, reach: targets[:1]},
		{name: "nothing said", handler: brigNarrowPodsandbox, reach: targets[:1]},
		{name: "nothing said", handler: brig, reach: targets},
		{name: "the labels of an image", handler: brigNarrow, image: n.labelled, reach: targets[:1]},
		{name: "the labels of an image", handler: brigNarrowPodsandbox, image: n.labelled, reach: targets[:1]},
		{name: "the labels of an image", handler: brig, image: n.labelled, reach: targets},
		{name: "within", handler: brigNarrow, annotations: map[string]string{"brig/cidr-allowlist": "9.9.9.9/32"}, reach: targets[1:]},
		{name: "within", handler: brigNarrowPodsandbox, annotations: map[string]string{"brig/cidr-allowlist": "9.9.9.9/32"}, reach: targets[1:]},
		{name: "beyond", handler: brigNarrow, annotations: map[string]string{"brig/cidr-allowlist": "9.9.9.0/24"}, refused: "9.9.9.0-9.9.9.255 is more than this node permits"},
		{name: "beyond", handler: brigNarrowPodsandbox, annotations: map[string]string{"brig/cidr-allowlist": "9.9.9.0/24"}, refused: "9.9.9.0-9.9.9.255 is more than this node permits"},
		{name: "names without brigd", handler: brig, annotations: map[string]string{"brig/domain-allowlist": "example.com"}, refused: "a domain list needs brigd"},
		{name: "names without brigd", handler: brigPodsandbox, annotations: map[string]string{"brig/domain-allowlist": "example.com"}, refused: "a domain list needs brigd"},
	} {
		t.Run(c.name+"/"+c.handler, func(t *testing.T) {
			config := n.podConfig(t)
			config.Annotations = c.annotations
			p, err := n.try(t, c.handler, config)
			if c.refused != "" {
				if err == nil || !strings.Contains(err.Error(), c.refused) {
					t.Errorf("want a refusal that says %q: %v", c.refused, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			program := p.containerConfig("one", "sh", "-c", probe(targets))
			if c.image != "" {
				program.Image.Image = c.image
			}
			if got := p.reach(program); !slices.Equal(got, slices.Sorted(slices.Values(c.reach))) {
				t.Errorf("reached %v, want %v", got, c.reach)
			}
		})
	}
}

// TestProbes: the host does not reach a pod on brig's network, so a kubelet's TCP and
// HTTP probes fail there; those that run a program in the container succeed.
func TestProbes(t *testing.T) {
	require.Net(t)
	require.Runsc(t)
	world := internet.New(t)
	n := launch(t, world.Host)
	for _, handler := range []string{brig, brigPodsandbox} {
		t.Run(handler, func(t *testing.T) {
			p := n.run(t, handler)
			server := p.start("server", "sh", "-c", "while true; do echo inside | nc -l -p 7000; done")
			if got := server.sh("until nc 127.0.0.1 7000; do sleep 0.1; done"); got != "inside\n" {
				t.Fatalf("a program in the container is answered %q", got)
			}
			other := p.start("other", "sh", "-c", "until nc 127.0.0.1 7000; do sleep 0.1; done")
			if got := other.output(); got != "inside\n" {
				t.Errorf("another container of the pod is answered %q", got)
			}
			ip := p.status().GetNetwork().GetIp()
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			if conn, err := internet.Dial(ctx, world.Host, ip+":7000"); err == nil {
				_ = conn.Close()
				t.Errorf("the host reached %s", ip)
			}
			neighbour := n.run(t, handler)
			if got := neighbour.start("client", "sh", "-c", "nc -w 2 "+ip+" 7000 2>&1; true").output(); strings.Contains(got, "inside") {
				t.Errorf("another pod reached %s", ip)
			}
		})
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
		"host port": {func(c *cri.PodSandboxConfig) {
			c.PortMappings = []*cri.PortMapping{{ContainerPort: 80, HostPort: 8080}}
		}, "brig tunnel open", ""},
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

// TestLinkThatComesLater: a pod whose packets could go round its policy ends. On a network
// that is not policed another link is its maker's business.
func TestLinkThatComesLater(t *testing.T) {
	under(t, gvisors, func(t *testing.T, n *node, handler string) {
		p := n.run(t, handler)
		c := p.start("one", "sleep", "1000")
		namespace := fmt.Sprintf("/proc/%d/ns/net", p.processOf("gvisor_sentry"))
		attach := func(kind, name string) {
			t.Helper()
			out, err := exec.CommandContext(t.Context(), "nsenter", "--net="+namespace, "ip", "link", "add", name, "type", kind).CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
		}
		attach("bridge", "later0")
		if handler == brigPlain {
			time.Sleep(200 * time.Millisecond)
			c.wantRunning()
			return
		}
		c.wantExit(137)
		p.wantNotReady()
		eventually(t, func() error {
			const says = "interface later0 came into the sandbox's network namespace"
			if !strings.Contains(n.log(1000), says) {
				return errors.New("the log does not say: " + says)
			}
			return nil
		})
	})
}

// TestSidecarRestarts: the policy of a running pod was changed, and a container that
// starts again with the pod's annotations gets what is in force, not what they say.
func TestSidecarRestarts(t *testing.T) {
	require.Net(t)
	require.Runsc(t)
	world := internet.New(t)
	n := launch(t, world.Host)
	targets := []string{internet.Public, internet.PublicToo}
	for _, handler := range []string{brig, brigPodsandbox} {
		t.Run(handler, func(t *testing.T) {
			p := n.run(t, handler, annotated(map[string]string{"brig/cidr-allowlist": internet.Public + "/32"}))
			app := p.start("app", "sleep", "1000")
			sidecar := func(attempt uint32) []string {
				t.Helper()
				config := p.containerConfig("sidecar", "sh", "-c", probe(targets))
				config.Metadata.Attempt, config.LogPath = attempt, fmt.Sprintf("sidecar-%d.log", attempt)
				config.Annotations = p.config.GetAnnotations() // as a kubelet does not, and others may
				return p.reach(config)
			}
			if got := sidecar(0); !slices.Equal(got, targets[:1]) {
				t.Errorf("at first the sidecar reaches %v", got)
			}
			p.change(internet.PublicToo + "/32")
			for attempt := range uint32(2) {
				if got := sidecar(attempt + 1); !slices.Equal(got, targets[1:]) {
					t.Errorf("started again the sidecar reaches %v", got)
				}
			}
			if got := strings.Fields(app.sh(probe(targets))); !slices.Equal(got, targets[1:]) {
				t.Errorf("the container that has run all along reaches %v", got)
			}
			config := p.containerConfig("other", "true")
			config.Annotations = map[string]string{"brig/cidr-allowlist": internet.PublicToo + "/32"}
			if c, err := p.create(config); err == nil {
				if err := c.start(); err != nil {
					t.Errorf("annotations that nobody passes on: %v", err)
				}
			}
		})
	}
}

// change gives the pod another policy, as brigd does at a call.
func (p *pod) change(cidrs ...string) {
	p.t.Helper()
	cfg, err := config.Load(filepath.Join(p.n.dir, "config.toml"))
	if err != nil {
		p.t.Fatal(err)
	}
	policy, err := netpolicy.Compile(netpolicy.Spec{CIDRAllowlist: &cidrs}, netpolicy.Ceiling{})
	if err != nil {
		p.t.Fatal(err)
	}
	link := attachment.Key{Network: "brig", ContainerID: p.id, IfName: "eth0"}.Link()
	err = netns.Do(p.n.netns, func() error {
		return transit.With(p.t.Context(), &cfg, func(_ context.Context, node transit.Node) error {
			_, err := node.Change(link, policy, 1, 0)
			return err
		})
	})
	if err != nil {
		p.t.Fatal(err)
	}
}
