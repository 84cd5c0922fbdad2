package cri

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// patience bounds what a test waits for.
const patience = 30 * time.Second

// pod is one that runs until its test ends.
type pod struct {
	t      *testing.T
	n      *node
	id     string
	config *cri.PodSandboxConfig
	// dir is the pod's own on the host, for logs and volumes.
	dir string
}

var podCount atomic.Int32

// podConfig is what a kubelet sends for a pod that asks for nothing.
func (n *node) podConfig(t *testing.T) *cri.PodSandboxConfig {
	number := podCount.Add(1)
	name := fmt.Sprintf("pod-%d", number)
	return &cri.PodSandboxConfig{
		Metadata:     &cri.PodSandboxMetadata{Name: name, Namespace: "default", Uid: fmt.Sprintf("uid-%d", number)},
		Hostname:     name,
		LogDirectory: filepath.Join(t.TempDir(), "logs"),
		DnsConfig:    &cri.DNSConfig{Servers: []string{"198.51.100.53"}, Searches: []string{"a.test", "b.test"}, Options: []string{"ndots:5"}},
		Labels:       map[string]string{"test": "cri"},
		Linux: &cri.LinuxPodSandboxConfig{
			CgroupParent:    n.cgroupParent() + "/" + name,
			SecurityContext: &cri.LinuxSandboxSecurityContext{NamespaceOptions: &cri.NamespaceOption{Pid: cri.NamespaceMode_CONTAINER}},
		},
	}
}

// try runs a pod that config describes, which may fail.
func (n *node) try(t *testing.T, handler string, config *cri.PodSandboxConfig) (*pod, error) {
	t.Helper()
	p := &pod{t: t, n: n, config: config, dir: filepath.Dir(config.GetLogDirectory())}
	if err := os.MkdirAll(config.GetLogDirectory(), 0o755); err != nil {
		t.Fatal(err)
	}
	makeCgroups(t, config.GetLinux().GetCgroupParent())
	r, err := n.RunPodSandbox(call(t), &cri.RunPodSandboxRequest{Config: config, RuntimeHandler: handler})
	if err != nil {
		removeCgroups(t, config.GetLinux().GetCgroupParent())
		return nil, err
	}
	p.id = r.GetPodSandboxId()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("containerd's last words:\n%s", n.log(80))
		}
		p.remove()
		removeCgroups(t, config.GetLinux().GetCgroupParent())
	})
	return p, nil
}

// run runs a pod, changed by edit from one that asks for nothing.
func (n *node) run(t *testing.T, handler string, edit ...func(*cri.PodSandboxConfig)) *pod {
	t.Helper()
	config := n.podConfig(t)
	for _, e := range edit {
		e(config)
	}
	p, err := n.try(t, handler, config)
	if err != nil {
		t.Fatalf("run a pod: %v\n%s", err, n.log(60))
	}
	return p
}

// call is the context of one request.
func call(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func (p *pod) stop() {
	p.t.Helper()
	if _, err := p.n.StopPodSandbox(call(p.t), &cri.StopPodSandboxRequest{PodSandboxId: p.id}); err != nil {
		p.t.Errorf("stop the pod: %v", err)
	}
}

func (p *pod) remove() {
	p.t.Helper()
	if _, err := p.n.RemovePodSandbox(call(p.t), &cri.RemovePodSandboxRequest{PodSandboxId: p.id}); err != nil {
		p.t.Errorf("remove the pod: %v", err)
	}
}

func (p *pod) status() *cri.PodSandboxStatus {
	p.t.Helper()
	r, err := p.n.PodSandboxStatus(call(p.t), &cri.PodSandboxStatusRequest{PodSandboxId: p.id})
	if err != nil {
		p.t.Fatalf("status of the pod: %v", err)
	}
	return r.GetStatus()
}

// container of a pod.
type container struct {
	*pod
	id     string
	config *cri.ContainerConfig
}

// containerConfig is what a kubelet sends for a container that runs argv.
func (p *pod) containerConfig(name string, argv ...string) *cri.ContainerConfig {
	return &cri.ContainerConfig{
		Metadata: &cri.ContainerMetadata{Name: name},
		Image:    &cri.ImageSpec{Image: p.n.busybox},
		Command:  argv[:1], Args: argv[1:],
		LogPath: name + ".log",
		Linux: &cri.LinuxContainerConfig{
			Resources: &cri.LinuxContainerResources{CpuShares: 2, OomScoreAdj: 1000},
			SecurityContext: &cri.LinuxContainerSecurityContext{
				NamespaceOptions: &cri.NamespaceOption{Pid: cri.NamespaceMode_CONTAINER},
				MaskedPaths: []string{
					"/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
					"/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
				},
				ReadonlyPaths: []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
			},
		},
	}
}

// create makes a container that is not started, which may fail.
func (p *pod) create(config *cri.ContainerConfig) (*container, error) {
	r, err := p.n.CreateContainer(call(p.t), &cri.CreateContainerRequest{PodSandboxId: p.id, Config: config, SandboxConfig: p.config})
	return &container{pod: p, id: r.GetContainerId(), config: config}, err
}

func (c *container) start() error {
	_, err := c.n.StartContainer(call(c.t), &cri.StartContainerRequest{ContainerId: c.id})
	return err
}

// startWith starts a container that edit has changed.
func (p *pod) startWith(edit func(*cri.ContainerConfig), name string, argv ...string) *container {
	p.t.Helper()
	config := p.containerConfig(name, argv...)
	if edit != nil {
		edit(config)
	}
	c, err := p.create(config)
	if err != nil {
		p.t.Fatalf("create %s: %v", name, err)
	}
	if err := c.start(); err != nil {
		p.t.Fatalf("start %s: %v", name, err)
	}
	return c
}

// start starts a container.
func (p *pod) start(name string, argv ...string) *container {
	p.t.Helper()
	return p.startWith(nil, name, argv...)
}

func (c *container) status() *cri.ContainerStatus {
	c.t.Helper()
	r, err := c.n.ContainerStatus(call(c.t), &cri.ContainerStatusRequest{ContainerId: c.id})
	if err != nil {
		c.t.Fatalf("status of %s: %v", c.config.GetMetadata().GetName(), err)
	}
	return r.GetStatus()
}

// exited waits for the container's end.
func (c *container) exited() *cri.ContainerStatus {
	c.t.Helper()
	var s *cri.ContainerStatus
	eventually(c.t, func() error {
		if s = c.status(); s.GetState() != cri.ContainerState_CONTAINER_EXITED {
			return fmt.Errorf("%s is in state %v, want it to exit", c.config.GetMetadata().GetName(), s.GetState())
		}
		return nil
	})
	return s
}

func (c *container) wantExit(code int32) {
	c.t.Helper()
	if s := c.exited(); s.GetExitCode() != code {
		c.t.Errorf("%s exited with %d (%s: %s), want %d", c.config.GetMetadata().GetName(), s.GetExitCode(), s.GetReason(), s.GetMessage(), code)
	}
}

func (c *container) wantRunning() {
	c.t.Helper()
	if s := c.status(); s.GetState() != cri.ContainerState_CONTAINER_RUNNING {
		c.t.Errorf("%s is in state %v (%d), want it to run", c.config.GetMetadata().GetName(), s.GetState(), s.GetExitCode())
	}
}

// exec runs argv in the container.
func (c *container) exec(argv ...string) *cri.ExecSyncResponse {
	c.t.Helper()
	r, err := c.n.ExecSync(call(c.t), &cri.ExecSyncRequest{ContainerId: c.id, Cmd: argv, Timeout: 20})
	if err != nil {
		c.t.Fatalf("exec %q in %s: %v", argv, c.config.GetMetadata().GetName(), err)
	}
	return r
}

// sh runs a shell command in the container, which must succeed, and returns its output.
func (c *container) sh(command string) string {
	c.t.Helper()
	r := c.exec("sh", "-c", command)
	if r.GetExitCode() != 0 {
		c.t.Fatalf("%s: status %d, stdout %q, stderr %q", command, r.GetExitCode(), r.GetStdout(), r.GetStderr())
	}
	return string(r.GetStdout())
}

// logged reads the container's log file, of which each line is a time, a stream, P or
// F for a partial or a full line, and the text. It returns "stream tag text" lines.
func (c *container) logged() []string {
	c.t.Helper()
	data, err := os.ReadFile(filepath.Join(c.pod.config.GetLogDirectory(), c.config.GetLogPath()))
	if err != nil {
		c.t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(string(data)) {
		at, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if _, err := time.Parse(time.RFC3339Nano, at); err != nil {
			c.t.Errorf("the log has a line without a time: %q", line)
		}
		lines = append(lines, rest)
	}
	return lines
}

// output is the container's whole stdout, once it has exited.
func (c *container) output() string {
	c.t.Helper()
	c.exited()
	var b strings.Builder
	for _, line := range c.logged() {
		if text, ok := strings.CutPrefix(line, "stdout F "); ok {
			b.WriteString(text + "\n")
		}
	}
	return b.String()
}

// eventually calls try until it succeeds.
func eventually(t *testing.T, try func() error) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %v", patience, err)
		}
	}
}

// hierarchies are the cgroup trees that a kubelet makes a pod's cgroup in.
func hierarchies() []string {
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		return []string{"/sys/fs/cgroup"}
	}
	found, _ := filepath.Glob("/sys/fs/cgroup/*/cgroup.procs")
	for i, path := range found {
		found[i] = filepath.Dir(path)
	}
	return found
}

func makeCgroups(t *testing.T, parent string) {
	t.Helper()
	for _, root := range hierarchies() {
		if err := os.MkdirAll(filepath.Join(root, parent), 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// removeCgroups fails if something of the pod is still in its cgroup.
func removeCgroups(t *testing.T, parent string) {
	t.Helper()
	for _, root := range hierarchies() {
		if err := os.Remove(filepath.Join(root, parent)); err != nil && !os.IsNotExist(err) {
			t.Errorf("the pod's cgroup is not empty after the pod's end: %v", err)
		}
	}
}
