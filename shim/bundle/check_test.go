package bundle

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// TestRefusals: what runsc would ignore, or what would stop it with a riddle, is
// refused by name. Each case adds a section to a spec that passes.
func TestRefusals(t *testing.T) {
	for _, c := range []struct{ section, fields, want string }{
		{"", `"windows":{}`, "windows, solaris, vm: this is Linux"},
		{"", `"hostname":"a\u0000b"`, "hostname: a NUL character"},
		{"", `"mounts":[{"destination":"d","type":"tmpfs"}]`, "mount d: the destination is no absolute path"},
		{"", `"mounts":[{"destination":"/d","type":"tmpfs","source":"a\u0000b"}]`, "mounts: a NUL character"},
		{"", `"mounts":[{"destination":"/d","type":"ext4","source":"/dev/sda1"}]`, "mount /d: runsc has no filesystem of type ext4"},
		{"", `"mounts":[{"destination":"/d","type":"none"}]`, "mount /d: runsc has no filesystem of type none"},
		{"", `"mounts":[{"destination":"/d","type":"bind"}]`, "mount /d: a bind mount without a source"},
		{"", `"mounts":[{"destination":"/d","type":"none","source":"/s","options":["rbind","rshared"]}]`, "mount /d: propagation rshared"},
		{"", `"mounts":[{"destination":"/d","type":"bind","source":"/s","options":["nosymfollow"]}]`, "mount /d: runsc would ignore the option nosymfollow"},
		{"", `"mounts":[{"destination":"/d","type":"bind","source":"/s","options":["idmap"]}]`, "mount /d: idmap without mappings of its own"},
		{"", `"mounts":[{"destination":"/d","type":"bind","source":"/s","uidMappings":[{"size":1}]}]`, "mount /d: only one of uidMappings"},
		{"", `"mounts":[{"destination":"/d","type":"tmpfs","options":["nr_inodes=5"]}]`, "mount /d: runsc would ignore the option nr_inodes=5"},
		{"", `"mounts":[{"destination":"/proc","type":"proc","options":["hidepid=2"]}]`, "mount /proc: runsc would ignore the option hidepid=2"},
		{"process", `"args":[]`, "process.args: no program"},
		{"process", `"args":["a\u0000b"]`, "process.args: a NUL character"},
		{"process", `"env":["A=B","C"]`, `process.env: "C" is no NAME=value`},
		{"process", `"rlimits":[{"type":"RLIMIT_X"}]`, `process.rlimits: unknown limit "RLIMIT_X"`},
		{"process", `"capabilities":{"ambient":["CAP_X"]}`, `process.capabilities: unknown capability "CAP_X"`},
		{"process", `"apparmorProfile":"mine"`, "process.apparmorProfile: the sandbox's kernel has no AppArmor to apply mine"},
		{"process", `"selinuxLabel":"l"`, "process.selinuxLabel"},
		{"process", `"scheduler":{}`, "process.scheduler"},
		{"process", `"ioPriority":{}`, "process.ioPriority"},
		{"process", `"execCPUAffinity":{}`, "process.execCPUAffinity"},
		{"linux", `"mountLabel":"l"`, "linux.mountLabel"},
		{"linux", `"intelRdt":{}`, "linux.intelRdt"},
		{"linux", `"memoryPolicy":{"mode":"MPOL_BIND"}`, "linux.memoryPolicy"},
		{"linux", `"personality":{"domain":"LINUX32"}`, "linux.personality"},
		{"linux", `"timeOffsets":{"boottime":{"secs":1}}`, "linux.timeOffsets"},
		{"linux", `"netDevices":{"eth0":{}}`, "linux.netDevices"},
		{"linux", `"rootfsPropagation":"rshared"`, "linux.rootfsPropagation"},
		{"linux", `"maskedPaths":["/proc/kcore","/proc/../etc/shadow"]`, "linux.maskedPaths, linux.readonlyPaths: /proc/../etc/shadow"},
		{"linux", `"readonlyPaths":["/etc"]`, "linux.maskedPaths, linux.readonlyPaths: /etc"},
		{"linux", `"sysctl":{"kernel.shmmax":"1"}`, "linux.sysctl: runsc does not set kernel.shmmax"},
		{"linux", `"sysctl":{"net.ipv4.ip_unprivileged_port_start":"80"}`, `linux.sysctl: net.ipv4.ip_unprivileged_port_start="80" cannot be had`},
		{"linux", `"devices":[{"path":"/dev/sda","type":"b","major":8}]`, "linux.devices: /dev/sda: a sandbox has no devices"},
		{"linux", `"resources":{"unified":{"pids.max":"5"}}`, "a limit of processes"},
		{"linux", `"resources":{"cpu":{"idle":1}}`, "linux.resources.cpu"},
		{"linux", `"resources":{"memory":{"disableOOMKiller":true}}`, "linux.resources.memory.disableOOMKiller"},
		{"linux", `"resources":{"unified":{"pids.max":"5"}}`, "a limit of processes"},
		{"linux", `"resources":{"unified":{"memory.oom.group":"0"}}`, "linux.resources.unified.memory.oom.group"},
		{"linux", `"resources":{"rdma":{"mlx5_1":{}}}`, "linux.resources.rdma"},
		{"linux", `"seccomp":{"defaultAction":"SCMP_ACT_NOTIFY"}`, "linux.seccomp: action SCMP_ACT_NOTIFY"},
		{"linux", `"seccomp":{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/s"}`, "linux.seccomp.listenerPath"},
		{"linux", `"seccomp":{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_ERRNO","args":[{"index":6}]}]}`,
			"linux.seccomp: argument 6 of a system call"},
		{"linux", `"namespaces":[{"type":"network"},{"type":"pid","path":"/proc/1/ns/pid"}]`, "linux.namespaces: the pid namespace /proc/1/ns/pid is not the sandbox's"},
		{"linux", `"namespaces":[{"type":"network"},{"type":"ipc","path":"/proc/7/ns/ipc"}]`, "linux.namespaces: the ipc namespace"},
		{"linux", `"namespaces":[{"type":"network"},{"type":"x"}]`, `linux.namespaces: unknown type "x"`},
		{"linux", `"namespaces":[{"type":"network"},{"type":"user","path":"/proc/7/ns/user"}]`, "linux.namespaces: runsc cannot join the user namespace"},
		{"linux", `"namespaces":[{"type":"network"},{"type":"user"}],"uidMappings":[{"containerID":1000,"size":9}],"gidMappings":[{"size":9}]`,
			"linux.uidMappings, linux.gidMappings: runsc needs user and group 0"},
	} {
		spec := parse(t, bare)
		fields := "{" + c.fields + "}"
		if c.section != "" {
			fields = `{"` + c.section + `":` + fields + "}"
		}
		if err := json.Unmarshal([]byte(fields), spec); err != nil {
			t.Fatal(err)
		}
		_, err := Normalize(spec, Host{Bundle: "/b"})
		if err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: got %v; want %q…", c.fields, err, c.want)
		} else if !errdefs.IsInvalidArgument(err) && !errdefs.IsNotImplemented(err) {
			t.Errorf("%s: %v has no class", c.fields, err)
		}
	}
}

// TestHarmless: what a sandbox has of its own, whatever is asked for, is no reason to
// refuse.
func TestHarmless(t *testing.T) {
	for _, fields := range []string{
		`{"linux":{"namespaces":[{"type":"network"},{"type":"pid"},{"type":"ipc"}]}}`, // the host's other namespaces
		`{"linux":{"namespaces":[{"type":"network"},{"type":"pid"},{"type":"ipc"},{"type":"time"},{"type":"cgroup"}]}}`,
		`{"linux":{"namespaces":[{"type":"network"},{"type":"pid"},{"type":"ipc"},{"type":"user"}],"uidMappings":[{"hostID":9,"size":9}],"gidMappings":[{"hostID":9,"size":9}]}}`,
		`{"linux":{"personality":{"domain":"LINUX"},"rootfsPropagation":"rslave"}}`,
		`{"linux":{"devices":[{"path":"/dev/fuse","type":"c","major":10,"minor":229},{"path":"/fifo","type":"p"}]}}`,
		`{"linux":{"sysctl":{"fs.nr_open":"1024","net.ipv6.conf.all.disable_ipv6":"1","net.ipv4.ping_group_range":"0\t2147483647"}}}`,
		`{"process":{"apparmorProfile":"docker-default","rlimits":[{"type":"RLIMIT_NOFILE","soft":5,"hard":5}]}}`,
		`{"mounts":[{"destination":"/s","type":"bind","source":"/s","options":["rbind","rprivate","ro","nodev","relatime"]}]}`,
		`{"mounts":[{"destination":"/t","type":"tmpfs","options":["size=64k","mode=1777","uid=5","noexec"]}]}`,
		`{"mounts":[{"destination":"/i","type":"none","source":"/s","options":["rbind","idmap"],"uidMappings":[{"size":1}],"gidMappings":[{"size":1}]}]}`,
		`{"hooks":{"prestart":[{"path":"/h"}],"createContainer":[{"path":"/h"}],"poststop":[{"path":"/h"}]}}`,
	} {
		spec := parse(t, bare)
		if err := json.Unmarshal([]byte(fields), spec); err != nil {
			t.Fatal(err)
		}
		if _, err := Normalize(spec, Host{Bundle: "/b"}); err != nil {
			t.Errorf("%s: %v", fields, err)
		}
	}
}

// TestJoin: a container that joins a sandbox gets brig's annotations and no others of
// theirs, and may name the sandbox's namespaces, by the sentry's pid.
func TestJoin(t *testing.T) {
	host := Host{Bundle: "/b", Sandbox: "pod", SandboxPID: 7}
	joining := `"process":{"args":["sh"],"cwd":"/"},"root":{"path":"/r"},"linux":{"namespaces":[%s]}`
	in := parse(t, strings.Replace(joining, "%s", `{"type":"pid","path":"/proc/7/ns/pid"},{"type":"ipc","path":"/proc/7/ns/ipc"}`, 1)+
		`,"annotations":{"io.kubernetes.cri.container-type":"sandbox","io.kubernetes.cri-o.SandboxID":"x","dev.gvisor.flag.debug":"true"}`)
	out, err := Normalize(in, host)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"io.kubernetes.cri.container-type": "container", "io.kubernetes.cri.sandbox-id": "pod"}
	if diff := cmp.Diff(want, out.Annotations); diff != "" {
		t.Errorf("annotations, -want +got:\n%s", diff)
	}
	for _, ns := range []string{`{"type":"pid","path":"/proc/8/ns/pid"}`, `{"type":"pid","path":"/proc/7/ns/../../8/ns/pid"}`, `{"type":"user"}`} {
		if _, err := Normalize(parse(t, strings.Replace(joining, "%s", ns, 1)), host); !errdefs.IsNotImplemented(err) {
			t.Errorf("%s: %v", ns, err)
		}
	}
}

// FuzzNormalize: no spec panics, and none smuggles an annotation past the operator.
func FuzzNormalize(f *testing.F) {
	f.Add("{" + bare + `,"annotations":{"dev.gvisor.spec.rootfs.source":"/"}}`)
	f.Add(`{"process":{"args":["a"]},"root":{"path":"r"},"linux":{"seccomp":{"syscalls":[{"args":[{"index":9}]}]}}}`)
	f.Fuzz(func(t *testing.T, in string) {
		var spec specs.Spec
		if decode([]byte(in), &spec, true) != nil {
			return
		}
		out, err := Normalize(&spec, Host{Bundle: "/b", BlockNetwork: true})
		if err != nil {
			return
		}
		for key := range out.Annotations {
			for _, prefix := range strippedPrefixes {
				if strings.HasPrefix(key, prefix) {
					t.Errorf("annotation %s reaches runsc", key)
				}
			}
		}
	})
}

// TestPodOfTheHost: what a pod asks for in vain is told; others get their own.
func TestPodOfTheHost(t *testing.T) {
	for _, kind := range []string{"pid", "ipc"} {
		spec := parse(t, strings.Replace(bare, `,{"type":"`+kind+`"}`, "", 1))
		if _, err := Normalize(spec, Host{Bundle: "/b", Pod: true}); err == nil || !strings.Contains(err.Error(), "the host's "+kind) {
			t.Errorf("a pod without a namespace for %s: %v", kind, err)
		}
		if _, err := Normalize(spec, Host{Bundle: "/b"}); err != nil {
			t.Errorf("a container without a namespace for %s: %v", kind, err)
		}
	}
}
