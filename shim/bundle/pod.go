package bundle

import (
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// IsPod tells that the container is made for others to join it.
func IsPod(spec *specs.Spec) bool {
	return spec.Annotations[containerType] == typeSandbox
}

// SandboxOf returns the sandbox that the container says it joins; empty: it does not.
func SandboxOf(spec *specs.Spec) string { return sandboxOf(spec.Annotations) }

// SandboxOf is the same of the spec in a bundle, of which nothing else is looked at: for
// all of it there is a second reader.
func (b Bundle) SandboxOf() (string, error) {
	var spec struct {
		Annotations map[string]string `json:"annotations"`
	}
	if err := readJSON(filepath.Join(string(b), "config.json"), &spec, false); err != nil {
		return "", fmt.Errorf("read OCI spec: %w", err)
	}
	return sandboxOf(spec.Annotations), nil
}

func sandboxOf(annotations map[string]string) string {
	if annotations[containerType] != typeContainer {
		return ""
	}
	return annotations[sandboxID]
}

// Pod is a sandbox without a program of its own, made for containers to join.
type Pod struct {
	ID           string
	NetNS        string // path of the network namespace; empty: none was made
	Hostname     string // empty: the node's
	DNS          *DNS   // nil: the node's
	Annotations  map[string]string
	CgroupParent string // a path, or a systemd slice; empty: containerd's own for pods
	Resources    *specs.LinuxResources
	Sysctls      map[string]string
}

// DNS is what a pod's resolv.conf says.
type DNS struct{ Servers, Searches, Options []string }

// idlePath is where a pod's holder sees its program.
const idlePath = "/brig-idle"

// PodSpec is the spec of a pod's holder: a program, found at idle on the host, that
// does nothing but hold the sandbox and reap orphans.
func (b Bundle) PodSpec(p Pod, idle string) *specs.Spec {
	return &specs.Spec{
		Version:     specs.Version,
		Hostname:    p.Hostname,
		Annotations: p.Annotations,
		Process: &specs.Process{
			Args: []string{idlePath}, Cwd: "/", NoNewPrivileges: true, Capabilities: &specs.LinuxCapabilities{},
		},
		Root: &specs.Root{Path: b.podRoot(), Readonly: true},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: idlePath, Type: "bind", Source: idle, Options: []string{"bind", "ro"}},
		},
		Linux: &specs.Linux{
			CgroupsPath: podCgroup(p.CgroupParent, p.ID),
			Resources:   p.Resources,
			Sysctl:      p.Sysctls,
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.PIDNamespace}, {Type: specs.IPCNamespace}, {Type: specs.UTSNamespace}, {Type: specs.MountNamespace},
				{Type: specs.NetworkNamespace, Path: p.NetNS},
			},
		},
	}
}

// podRoot is the holder's root filesystem. runsc makes mount points in it, and of the
// bundle's own containerd removes nothing but an empty folder.
func (b Bundle) podRoot() string { return filepath.Join(b.Dir(), "root") }

// podCgroup is where containerd's CRI plugin would put a pause container.
func podCgroup(parent, id string) string {
	switch base := path.Base(parent); {
	case parent == "":
		return "/k8s.io/" + id
	case strings.HasSuffix(base, ".slice"):
		return strings.Join([]string{base, "cri-containerd", id}, ":")
	default:
		return path.Join(parent, id)
	}
}

// MakePodRoot makes the holder's root.
func (b Bundle) MakePodRoot() error { return os.MkdirAll(b.podRoot(), 0o755) }

// WritePodFiles makes the files that every container of the pod sees, and the holder's
// root.
func (b Bundle) WritePodFiles(p Pod) error {
	if err := b.MakePodRoot(); err != nil {
		return err
	}
	hosts, err := os.ReadFile("/etc/hosts")
	if err != nil {
		return err
	}
	resolv, err := resolvConf(p.DNS)
	if err != nil {
		return err
	}
	for name, content := range map[string]string{"hostname": p.Hostname + "\n", "hosts": string(hosts), "resolv.conf": resolv} {
		if err := os.WriteFile(filepath.Join(b.Dir(), name), []byte(content), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// resolvConf is the node's own where a pod says nothing.
func resolvConf(dns *DNS) (string, error) {
	if dns == nil {
		data, err := os.ReadFile("/etc/resolv.conf")
		return string(data), err
	}
	var lines []string
	line := func(words ...string) { lines = append(lines, strings.Join(words, " ")+"\n") }
	if len(dns.Searches) > 0 {
		line(append([]string{"search"}, dns.Searches...)...)
	}
	for _, server := range dns.Servers {
		line("nameserver", server)
	}
	if len(dns.Options) > 0 {
		line(append([]string{"options"}, dns.Options...)...)
	}
	text := strings.Join(lines, "")
	if strings.Count(text, "\n") != len(lines) {
		return "", fmt.Errorf("a line break in the pod's DNS configuration: %w", errdefs.ErrInvalidArgument)
	}
	return text, nil
}

const (
	shm        = "/dev/shm"
	shmOptions = "nosuid,noexec,nodev,mode=1777,size=65536k"
)

// shmSource names the memory that the pod's containers share; nothing is there.
func (b Bundle) shmSource() string { return filepath.Join(b.Dir(), "shm") }

// SharePodMemory tells the sandbox that the containers of pod b have one /dev/shm.
func (b Bundle) SharePodMemory(spec *specs.Spec) {
	spec.Annotations = maps.Clone(spec.Annotations)
	if spec.Annotations == nil {
		spec.Annotations = make(map[string]string)
	}
	for key, value := range map[string]string{
		"source": b.shmSource(), "type": "tmpfs", "share": "pod", "options": shmOptions,
	} {
		spec.Annotations["dev.gvisor.spec.mount.shm."+key] = value
	}
}

// AddPodMounts gives a container the files and the memory of pod b, where its own
// spec has nothing at their places. The files are read-only: a bundle is on a file
// system in memory that all of the node's containers need, and a file that a program can
// write can fill it.
func (b Bundle) AddPodMounts(spec *specs.Spec) {
	spec.Mounts = slices.Clone(spec.Mounts)
	for _, name := range []string{"hostname", "hosts", "resolv.conf"} {
		destination := "/etc/" + name
		at := func(m specs.Mount) bool { return path.Clean(m.Destination) == destination }
		if !slices.ContainsFunc(spec.Mounts, at) {
			spec.Mounts = append(spec.Mounts, specs.Mount{
				Destination: destination, Type: "bind", Source: filepath.Join(b.Dir(), name),
				Options: []string{"rbind", "rprivate", "ro"},
			})
		}
	}
	for i, m := range spec.Mounts {
		if path.Clean(m.Destination) == shm && m.Type == "tmpfs" {
			spec.Mounts[i].Source, spec.Mounts[i].Options = b.shmSource(), strings.Split(shmOptions, ",")
		}
	}
}
