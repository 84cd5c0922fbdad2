package cri

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// TestFiles that a pod's containers have from the pod.
func TestFiles(t *testing.T) {
	under(t, all, func(t *testing.T, n *node, handler string) {
		p := n.run(t, handler)
		hosts := filepath.Join(p.dir, "hosts") // the kubelet's own
		if err := os.WriteFile(hosts, []byte("127.0.0.1 localhost\n10.0.0.9 from-kubelet\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		plain := p.start("plain", "sleep", "1000")
		kubelet := p.startWith(func(c *cri.ContainerConfig) {
			c.Mounts = []*cri.Mount{{ContainerPath: "/etc/hosts", HostPath: hosts}}
		}, "kubelet", "sleep", "1000")
		name := p.config.GetHostname()
		for _, c := range []*container{plain, kubelet} {
			for command, want := range map[string]string{
				"hostname":             name + "\n",
				"echo $HOSTNAME":       name + "\n",
				"cat /etc/hostname":    name + "\n",
				"cat /etc/resolv.conf": "search a.test b.test\nnameserver 198.51.100.53\noptions ndots:5\n",
			} {
				if got := c.sh(command); got != want {
					t.Errorf("%s: %s gives %q, want %q", c.config.GetMetadata().GetName(), command, got, want)
				}
			}
		}
		if got := kubelet.sh("cat /etc/hosts"); !strings.Contains(got, "from-kubelet") {
			t.Errorf("/etc/hosts is not the kubelet's: %q", got)
		}
		if got := plain.sh("cat /etc/hosts"); !strings.Contains(got, "localhost") {
			t.Errorf("/etc/hosts without the kubelet's: %q", got)
		}
	})
}

// TestSharedMemory: /dev/shm is the pod's.
func TestSharedMemory(t *testing.T) {
	under(t, all, func(t *testing.T, n *node, handler string) {
		p := n.run(t, handler)
		one, two := p.start("one", "sleep", "1000"), p.start("two", "sleep", "1000")
		one.sh("echo shared > /dev/shm/note")
		if got := two.sh("cat /dev/shm/note"); got != "shared\n" {
			t.Errorf("the other container's /dev/shm has %q", got)
		}
		if got := one.sh("stat -c %a /dev/shm"); got != "1777\n" {
			t.Errorf("/dev/shm has the mode %q", got)
		}
	})
}

// TestVolumes: a folder of the host in two containers, for one of them read-only; what
// one writes the other and the host see at once.
func TestVolumes(t *testing.T) {
	under(t, all, func(t *testing.T, n *node, handler string) {
		p := n.run(t, handler)
		volume := filepath.Join(p.dir, "volume")
		if err := os.Mkdir(volume, 0o777); err != nil {
			t.Fatal(err)
		}
		mount := func(readonly bool) func(*cri.ContainerConfig) {
			return func(c *cri.ContainerConfig) {
				c.Mounts = []*cri.Mount{{ContainerPath: "/data", HostPath: volume, Readonly: readonly}}
			}
		}
		writer := p.startWith(mount(false), "writer", "sleep", "1000")
		reader := p.startWith(mount(true), "reader", "sleep", "1000")
		writer.sh("echo written > /data/file")
		if got := reader.sh("cat /data/file"); got != "written\n" {
			t.Errorf("the reader sees %q", got)
		}
		if data, err := os.ReadFile(filepath.Join(volume, "file")); err != nil || string(data) != "written\n" {
			t.Errorf("the host sees %q, %v", data, err)
		}
		if err := os.WriteFile(filepath.Join(volume, "from-host"), []byte("host\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := reader.sh("cat /data/from-host"); got != "host\n" {
			t.Errorf("of the host's file the reader sees %q", got)
		}
		if r := reader.exec("sh", "-c", "echo no > /data/file"); r.GetExitCode() == 0 {
			t.Error("a read-only volume was written")
		}
	})
}

// TestReadonlyRoot, as securityContext.readOnlyRootFilesystem asks for.
func TestReadonlyRoot(t *testing.T) {
	under(t, all, func(t *testing.T, n *node, handler string) {
		p := n.run(t, handler)
		c := p.startWith(func(c *cri.ContainerConfig) { c.Linux.SecurityContext.ReadonlyRootfs = true }, "readonly", "sleep", "1000")
		if r := c.exec("touch", "/file"); r.GetExitCode() == 0 {
			t.Error("a read-only root was written")
		}
		c.sh("touch /dev/shm/file")
	})
}

// TestUser: the ids and groups that the pod's author names, under the strictest of
// Kubernetes' pod security standards.
func TestUser(t *testing.T) {
	under(t, all, func(t *testing.T, n *node, handler string) {
		p := n.run(t, handler)
		c := p.startWith(func(c *cri.ContainerConfig) {
			s := c.GetLinux().GetSecurityContext()
			s.Capabilities = &cri.Capability{DropCapabilities: []string{"ALL"}}
			s.RunAsUser, s.RunAsGroup, s.SupplementalGroups = &cri.Int64Value{Value: 1234}, &cri.Int64Value{Value: 2345}, []int64{3456}
			s.NoNewPrivs = true
			if handler != runc { // the one that is built for tests knows no seccomp
				s.Seccomp = &cri.SecurityProfile{ProfileType: cri.SecurityProfile_RuntimeDefault}
			}
		}, "user", "sh", "-c", "id -u; id -g; id -G")
		if got := c.output(); got != "1234\n2345\n2345 3456\n" {
			t.Errorf("the ids are %q", got)
		}
	})
}
