package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"brig/tests/image/oci"
	"brig/tests/internet"
	"brig/tests/node"

	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

// labelled is an image whose author would like to choose the policy.
const labelled = "brig.test/labelled:1"

func importLabelled(t *testing.T, n *node.Node, labels map[string]string) {
	t.Helper()
	img, err := image(oci.Recipe{})
	if err != nil {
		t.Fatal(err)
	}
	file, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config := file.Config.DeepCopy()
	config.Labels = labels
	if img, err = mutate.Config(img, *config); err != nil {
		t.Fatal(err)
	}
	archive := filepath.Join(t.TempDir(), "image.tar")
	if err := oci.WriteArchive(archive, labelled, img); err != nil {
		t.Fatal(err)
	}
	if r := n.Ctr(t, ctrNamespace, "image", "import", archive); r.Code != 0 {
		t.Fatal(r)
	}
}

// TestCtrPolicy is the policy as somebody meets it who has ctr alone: annotations
// choose it, within what the configuration says, and nothing else does.
func TestCtrPolicy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	importForCtr(t, w.Node)
	injected := map[string]string{"brig/block-network": "true", "brig/cidr-allowlist": internet.PublicToo + "/32", "dev.gvisor.flag.network": "host"}
	importLabelled(t, w.Node, injected)
	handler := w.handler(t, "narrow", `
[network.default]
cidr_allowlist = ["203.0.113.0/28"]
[network.ceiling]
cidr_allowlist = ["203.0.113.0/24"]
`)

	const both, one = internet.Public + " " + internet.PublicToo, internet.Public
	for _, tc := range []struct {
		name, image string
		flags       []string
		want        string
	}{
		{"nothing said", ctrImage, nil, both},
		{"a list", ctrImage, annotate("brig/cidr-allowlist=203.0.113.0/24"), one},
		{"a list of two", ctrImage, annotate("brig/cidr-allowlist=203.0.113.10/32, 9.9.9.9/32"), both},
		{"an empty list", ctrImage, annotate("brig/cidr-allowlist="), ""},
		{"block", ctrImage, annotate("brig/block-network=true"), ""},
		{"not block", ctrImage, annotate("brig/block-network=false"), both},
		{"an image's labels", labelled, nil, both},
		// Not the container's label: ctr makes an annotation of what stands on its command line, too.
		{"a label on the command line", labelled, []string{"--label", "brig/cidr-allowlist=203.0.113.0/24"}, one},
		{"runsc's own annotations", ctrImage, annotate("dev.gvisor.flag.network=host", "brig/cidr-allowlist=203.0.113.0/24"), one},
		{"a handler's default", ctrImage, handler, one},
		{"a handler's default, the labels of an image", labelled, handler, one},
		{"less than the ceiling", ctrImage, append(annotate("brig/cidr-allowlist="), handler...), ""},
		{"another handler on the same node", ctrImage, w.handler(t, "other", ""), both},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got, r := w.ctrReach(t, tc.image, tc.flags); got != tc.want || r.Code != 0 {
				t.Errorf("reached %q, want %q: %s", got, tc.want, r)
			}
		})
	}

	for _, tc := range []struct {
		name  string
		flags []string
		says  string
	}{
		{"beyond the ceiling", append(annotate("brig/cidr-allowlist=9.9.9.9/32"), handler...),
			"9.9.9.9-9.9.9.9 is more than this node permits (203.0.113.0-203.0.113.255; dns off): ask for less"},
		{"DNS beyond the ceiling", append(annotate("brig/dns=resolver"), handler...), "dns for every name is more than this node permits"},
		{"a private range", annotate("brig/cidr-allowlist=10.0.0.0/8"), "10.0.0.0/8 is a private, link-local or reserved range; only the operator can permit it"},
		{"an unknown annotation", annotate("brig/cidr-allow=9.9.9.9/32"), "unknown annotation brig/cidr-allow"},
		{"a contradiction", annotate("brig/block-network=true", "brig/cidr-allowlist="), "cidr_allowlist cannot be used when block_network is enabled"},
		{"an unknown DNS", annotate("brig/dns=8.8.8.8"), "dns is 8.8.8.8; want off or resolver"},
		{"an address for a name", annotate("brig/domain-allowlist=9.9.9.9"), "9.9.9.9 is an address: name it in cidr_allowlist"},
	} {
		t.Run(tc.name, func(t *testing.T) { w.ctrRefused(t, tc.flags, tc.says) })
	}

	t.Run("without brigd", func(t *testing.T) {
		if err := w.Kill(); err != nil {
			t.Fatal(err)
		}
		w.ctrRefused(t, annotate("brig/domain-allowlist="+internet.Name), "a domain list needs brigd, which answers for its names, and it does not run on this node")
		if got, r := w.ctrReach(t, ctrImage, annotate("brig/cidr-allowlist=203.0.113.0/24")); got != one || r.Code != 0 {
			t.Errorf("reached %q, want %q: %s", got, one, r)
		}
		if err := w.Start(); err != nil {
			t.Fatal(err)
		}
	})
}

func annotate(annotations ...string) (flags []string) {
	for _, a := range annotations {
		flags = append(flags, "--annotation", a)
	}
	return flags
}

// handler is a configuration of the same node that says more, and the flag of ctr that
// names it; a handler of CRI names it likewise.
func (w *world) handler(t *testing.T, name, more string) []string {
	t.Helper()
	common, err := os.ReadFile(filepath.Join(w.Dir, "config.toml"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(w.Dir, name+".toml")
	if err := os.WriteFile(path, append(common, more...), 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{"--runtime-config-path", path}
}

// ctrReach tells what a program reached, and makes sure that the servers agree.
func (w *world) ctrReach(t *testing.T, image string, flags []string) (string, node.Result) {
	t.Helper()
	script := `for a in "$@"; do nc -w 3 "$a" 80 </dev/null | grep -q . && echo "$a"; done; true`
	targets := []string{internet.Public, internet.PublicToo, internet.HostPublic, "10.99.0.1", "169.254.169.254"}
	w.Arrived()
	r := ctrCNIOf(t, w.Node, image, flags, "policy", append([]string{"sh", "-c", script, "sh"}, targets...)...)
	got := strings.Fields(r.Stdout)
	if arrived := w.Arrived(); len(arrived) != len(got) {
		t.Errorf("reached %v, and at the servers arrived %v", got, arrived)
	}
	if r.Code != 0 {
		w.Ctr(t, ctrNamespace, "containers", "rm", "policy")
	}
	return strings.Join(got, " "), r
}

func (w *world) ctrRefused(t *testing.T, flags []string, says string) {
	t.Helper()
	w.Arrived()
	r := ctrCNI(t, w.Node, flags, "refused", "nc", "-w", "3", internet.Public, "80")
	if r.Code == 0 || !strings.Contains(r.Stderr, says) {
		t.Errorf("want a refusal that says %q: %s", says, r)
	}
	if arrived := w.Arrived(); len(arrived) != 0 {
		t.Errorf("of what was refused arrived %v", arrived)
	}
	w.Ctr(t, ctrNamespace, "containers", "rm", "refused")
}
