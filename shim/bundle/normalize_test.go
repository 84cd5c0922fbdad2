package bundle

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

const bare = `"process":{"args":["sh"],"cwd":"/"},"root":{"path":"rootfs"},"linux":{"namespaces":[{"type":"network"},{"type":"pid"},{"type":"ipc"}]}`

func limited(resources string) string {
	return strings.Replace(bare, `"linux":{`, `"linux":{"resources":{`+resources+`},`, 1)
}

func TestNormalize(t *testing.T) {
	for _, c := range []struct {
		name, in, out string // out "error: …" is a part of the error
		block         bool
	}{
		{name: "root becomes absolute", in: bare,
			out: strings.Replace(bare, `"rootfs"`, `"/b/rootfs"`, 1)},
		{name: "runsc's and brig's annotations are dropped, others stay",
			in: bare + `,"annotations":{"dev.gvisor.flag.host-uds":"all","dev.gvisor.internal.checkpoint.path":"/etc",
				"io.kubernetes.cri.container-type":"sandbox","io.kubernetes.cri.container-name":"c","io.kubernetes.cri-o.SandboxID":"s",
				"brig/cidr-allowlist":"","nerdctl/name":"n"}`,
			out: strings.Replace(bare, `"rootfs"`, `"/b/rootfs"`, 1) + `,"annotations":{"nerdctl/name":"n"}`},
		{name: "joining a sandbox", in: bare + `,"annotations":{"io.kubernetes.cri.container-type":"container","io.kubernetes.cri.sandbox-id":"x"}`,
			out: "error: io.kubernetes.cri.container-type=container: a container of a sandbox that this shim does not have"},
		{name: "unknown brig annotation", in: bare + `,"annotations":{"brig/blok-network":"true"}`,
			out: "error: unknown annotation brig/blok-network: brig knows brig/block-network, brig/cidr-allowlist,"},
		{name: "GPU", in: bare + `,"annotations":{"brig/gpu":"1"}`, out: "error: annotation brig/gpu is for brigd alone"},
		{name: "startContainer hook", in: bare + `,"hooks":{"startContainer":[{"path":"/h"}]}`, out: "error: startContainer hooks"},
		{name: "other hooks", in: bare + `,"hooks":{"createRuntime":[{"path":"/h"}]}`,
			out: strings.Replace(bare, `"rootfs"`, `"/b/rootfs"`, 1) + `,"hooks":{"createRuntime":[{"path":"/h"}]}`},
		{name: "limit of processes", in: limited(`"pids":{"limit":5}`),
			out: "error: a limit of processes"},
		{name: "no limit of processes", in: limited(`"pids":{"limit":-1},"unified":{"pids.max":"max"}`),
			out: strings.Replace(limited(`"unified":{"pids.max":"max"}`), `"rootfs"`, `"/b/rootfs"`, 1)},
		{name: "limits that are zero", in: limited(`"pids":{"limit":0},"cpu":{"shares":0,"quota":0,"period":0,"cpus":"0"},"memory":{"limit":5,"swap":0,"reservation":0}`),
			out: strings.Replace(limited(`"cpu":{"cpus":"0"},"memory":{"limit":5}`), `"rootfs"`, `"/b/rootfs"`, 1)},
		{name: "host network", in: `"process":{"args":["sh"],"cwd":"/"},"root":{"path":"/r"},"linux":{}`,
			out: "error: the host's network"},
		{name: "host network, but blocked", in: `"process":{"args":["sh"],"cwd":"/"},"root":{"path":"/r"},"linux":{"namespaces":[{"type":"pid"},{"type":"ipc"}]}`, block: true,
			out: `"process":{"args":["sh"],"cwd":"/"},"root":{"path":"/r"},"linux":{"namespaces":[{"type":"pid"},{"type":"ipc"}]}`},
		{name: "OOM score below what may be set", in: strings.Replace(bare, `"cwd"`, `"oomScoreAdj":-999,"cwd"`, 1),
			out: strings.NewReplacer(`"rootfs"`, `"/b/rootfs"`, `"cwd"`, `"oomScoreAdj":-5,"cwd"`).Replace(bare)},
		{name: "OOM score above", in: strings.Replace(bare, `"cwd"`, `"oomScoreAdj":100,"cwd"`, 1),
			out: strings.NewReplacer(`"rootfs"`, `"/b/rootfs"`, `"cwd"`, `"oomScoreAdj":100,"cwd"`).Replace(bare)},
		{name: "an annotation that the operator allows", in: bare + `,"annotations":{"dev.gvisor.flag.strace":"true","dev.gvisor.flag.debug":"true"}`,
			out: strings.Replace(bare, `"rootfs"`, `"/b/rootfs"`, 1) + `,"annotations":{"dev.gvisor.flag.strace":"true"}`},
		{name: "a source relative to the bundle", in: bare + `,"mounts":[{"destination":"/d","type":"bind","source":"d","options":["rro"]}]`,
			out: strings.Replace(bare, `"rootfs"`, `"/b/rootfs"`, 1) + `,"mounts":[{"destination":"/d","type":"bind","source":"/b/d","options":["ro"]}]`},
		{name: "docker's --domainname", in: strings.Replace(bare, `"linux":{`, `"linux":{"sysctl":{"kernel.domainname":"d"},`, 1),
			out: strings.NewReplacer(`"rootfs"`, `"/b/rootfs"`, `"linux":{`, `"linux":{"sysctl":{"kernel.domainname":"d"},`).Replace(bare) + `,"domainname":"d"`},
		{name: "a hostname", in: bare + `,"hostname":"h"`, out: strings.Replace(bare, `"rootfs"`, `"/b/rootfs"`, 1) + `,"hostname":"h"`},
		{name: "nothing", in: ``, out: "error: OCI spec without process"},
	} {
		t.Run(c.name, func(t *testing.T) {
			in, untouched := parse(t, c.in), parse(t, c.in)
			out, err := Normalize(in, Host{
				Bundle: "/b", BlockNetwork: c.block, Hostname: "node", LowestOOMScore: -5, AllowedAnnotations: []string{"dev.gvisor.flag.strace"},
			})
			if diff := cmp.Diff(untouched, in); diff != "" {
				t.Errorf("the input was changed:\n%s", diff)
			}
			if want, isError := strings.CutPrefix(c.out, "error: "); isError {
				if err == nil || !strings.HasPrefix(err.Error(), want) {
					t.Fatalf("got error %v; want %q…", err, want)
				}
				return
			}
			want := parse(t, c.out)
			want.Mounts = append(want.Mounts, noTmpfs)
			if want.Hostname == "" {
				want.Hostname = "node"
			}
			if want.Linux.Resources == nil {
				want.Linux.Resources = new(specs.LinuxResources)
			}
			if diff := cmp.Diff(want, out); err != nil || diff != "" {
				t.Errorf("error %v, -want +got:\n%s", err, diff)
			}
		})
	}
}

func parse(t *testing.T, fields string) *specs.Spec {
	t.Helper()
	var s specs.Spec
	if err := json.Unmarshal([]byte("{"+fields+"}"), &s); err != nil {
		t.Fatal(err)
	}
	return &s
}
