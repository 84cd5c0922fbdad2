package record

import (
	"maps"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"brig/internal/netpolicy"
)

func TestCheckOfWhatACreateMaySay(t *testing.T) {
	const image = "localhost:5000/python:3"
	bind := func(source, target string) []Mount { return []Mount{{Source: source, Target: target}} }
	tmpfs := func(targets ...string) (list []Mount) {
		for _, target := range targets {
			list = append(list, Mount{Target: target, Writable: true})
		}
		return list
	}
	for _, tc := range []struct {
		name string
		in   Request
		want string // the error; "" is none
	}{
		{"all of it", Request{
			IdleTimeout: time.Second, Ready: &Probe{Port: 8080, Timeout: 5 * time.Minute, Interval: 10 * time.Millisecond},
			Mounts:    append(tmpfs("/tmp", "/tmp/a"), bind("/srv/data", "/data")...),
			Secrets:   Secrets{"TOKEN": "x"},
			Resources: Resources{CPU: 1, CPURequest: 1, MemoryMiB: 64, MemoryRequestMiB: 64, PIDs: 8, DiskMiB: 16},
			Argv:      []string{"sh"}, Streams: Streams{Stdin: true, TTY: true, Size: Size{80, 24}},
		}, ""},
		{"requests without limits", Request{Resources: Resources{CPURequest: 2, MemoryRequestMiB: 64}}, ""},
		{"short idle timeout", Request{IdleTimeout: time.Second - 1}, "invalid idle_timeout 999.999999ms: want at least 1s"},
		{"idle timeout below zero", Request{IdleTimeout: -1}, "invalid idle_timeout -1ns: want at least 1s"},

		{"probe of nothing", Request{Ready: &Probe{}}, "ready wants either a tcp_port or an exec"},
		{"probe of both", Request{Ready: &Probe{Port: 1, Argv: []string{"true"}}}, "ready wants either a tcp_port or an exec"},
		{"probe of an empty program", Request{Ready: &Probe{Argv: []string{""}}}, "argv[0] is empty: name a program to run"},
		{"probe of a port without a network", Request{Network: netpolicy.Spec{BlockNetwork: true}, Ready: &Probe{Port: 80}},
			"ready.tcp_port needs a network, and block_network is set: give ready.exec"},
		{"probe without a network", Request{Network: netpolicy.Spec{BlockNetwork: true}, Ready: &Probe{Argv: []string{"true"}}}, ""},
		{"patient probe", Request{Timeout: time.Minute, Ready: &Probe{Port: 80, Timeout: time.Minute + 1}},
			"invalid ready.timeout 1m0.000000001s: want at most the sandbox's timeout, 1m0s"},
		{"restless probe", Request{Ready: &Probe{Port: 80, Interval: 1}}, "invalid ready.interval 1ns: want 10ms to ready.timeout, which is 1m0s"},
		{"lazy probe", Request{Ready: &Probe{Port: 80, Interval: time.Hour}}, "invalid ready.interval 1h0m0s: want 10ms to ready.timeout, which is 1m0s"},

		{"relative target", Request{Mounts: tmpfs("tmp")}, `invalid mount target "tmp": want a clean absolute path other than /`},
		{"no target", Request{Mounts: tmpfs("")}, `invalid mount target "": want a clean absolute path other than /`},
		{"target with dots", Request{Mounts: tmpfs("/a/../b")}, `invalid mount target "/a/../b": want a clean absolute path other than /`},
		{"target at the root", Request{Mounts: tmpfs("/")}, `invalid mount target "/": want a clean absolute path other than /`},
		{"long target", Request{Mounts: tmpfs("/" + strings.Repeat("x", 4096))},
			`invalid mount target "/` + strings.Repeat("x", 199) + `": want a clean absolute path other than /`},
		{"target in proc", Request{Mounts: tmpfs("/proc/sys")}, `invalid mount target "/proc/sys": what is below /proc is the sandbox's own`},
		{"target of brig's", Request{Mounts: tmpfs("/.brig")}, `invalid mount target "/.brig": what is below /.brig is the sandbox's own`},
		{"target like brig's", Request{Mounts: tmpfs("/.brigade", "/device", "/process")}, ""},
		{"a file that brig writes", Request{Mounts: tmpfs("/etc/hosts")}, `invalid mount target "/etc/hosts": brig writes the sandbox's /etc/hosts`},
		{"a folder of files that brig writes", Request{Mounts: bind("/srv/etc", "/etc")}, `invalid mount target "/etc": brig writes the sandbox's /etc/hosts`},
		{"a folder of such files in memory", Request{Mounts: tmpfs("/etc")}, ""},
		{"two at one target", Request{Mounts: tmpfs("/a", "/a")}, `two mounts at "/a": give each a target of its own`},
		{"one below a bind mount", Request{Mounts: append(tmpfs("/a/b"), bind("/srv", "/a")...)},
			`mount "/a/b" lies below the bind mount "/a", where it would be made on the node: mount it elsewhere`},
		{"one beside a bind mount", Request{Mounts: append(tmpfs("/ab"), bind("/srv", "/a")...)}, ""},
		{"relative source", Request{Mounts: bind("srv", "/a")}, `invalid bind.source "srv" of mount "/a": want a clean absolute path other than /`},
		{"source with dots", Request{Mounts: bind("/srv/../etc", "/a")}, `invalid bind.source "/srv/../etc" of mount "/a": want a clean absolute path other than /`},
		{"source at the root", Request{Mounts: bind("/", "/a")}, `invalid bind.source "/" of mount "/a": want a clean absolute path other than /`},
		{"huge tmpfs", Request{Mounts: []Mount{{Target: "/a", SizeMiB: math.MaxUint64}}}, `invalid tmpfs.size_mib 18446744073709551615 of mount "/a": at most 4294967296`},
		{"many mounts", Request{Mounts: make([]Mount, 33)}, "33 mounts: at most 32"},

		{"secret name", Request{Secrets: Secrets{"A=B": "hush"}}, `invalid secret name "A=B": it must not be empty nor contain '=' or NUL`},
		{"secret value", Request{Secrets: Secrets{"A": "hu\x00sh"}}, "the value of secret A contains a NUL byte or is no UTF-8"},
		{"secret in env", Request{Env: map[string]string{"A": "1"}, Secrets: Secrets{"A": "hush"}}, "A is both in env and in secrets: leave it out of env"},
		{"long secrets", Request{Env: map[string]string{"A": strings.Repeat("x", MaxEnv/2)}, Secrets: Secrets{"B": strings.Repeat("x", MaxEnv/2)}},
			"env and secrets have 131078 bytes: at most 131072"},

		{"cpu request above the limit", Request{Resources: Resources{CPU: 1, CPURequest: 1.5}}, "invalid resources.cpu_request 1.5: at most the limit, cpu, which is 1"},
		{"cpu request that is none", Request{Resources: Resources{CPURequest: math.NaN()}}, "invalid resources.cpu_request NaN: want at least 0.01 cores"},
		{"memory request above the limit", Request{Resources: Resources{MemoryMiB: 64, MemoryRequestMiB: 65}},
			"invalid resources.memory_request_mib 65: at most the limit, memory_mib, which is 64"},
		{"few pids", Request{Resources: Resources{PIDs: 7}}, "invalid resources.pids 7: want at least 8"},
		{"memory in bytes", Request{Resources: Resources{MemoryMiB: 1 << 40}}, "invalid resources.memory_mib 1099511627776: want at most 4294967296"},
		{"little disk", Request{Resources: Resources{DiskMiB: 15}}, "invalid resources.disk_mib 15: want at least 16"},
		{"size without a terminal", Request{Streams: Streams{Size: Size{Columns: 80}}}, "size is given without tty: only a terminal has one"},
		{"no UTF-8", Request{Argv: []string{"sh", "\xff"}}, `argv contains a NUL byte or is no UTF-8: "\xff"`},
		{"tag with NUL", Request{Tags: map[string]string{"a": "\x00"}}, `tags contains a NUL byte or is no UTF-8: "\x00"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.in.Image = image
			_, err := tc.in.Check(limits)
			got := ""
			if err != nil {
				got = err.Error()
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
			if err != nil && !errdefs.IsInvalidArgument(err) {
				t.Errorf("%v is no ErrInvalidArgument", err)
			}
			if strings.Contains(got, "hush") {
				t.Errorf("the error tells a secret: %s", got)
			}
		})
	}
}

func TestCheckOfACheckpoint(t *testing.T) {
	if _, err := (Request{Checkpoint: "warm", Name: "a", Resources: Resources{PIDs: 8}, IdleTimeout: time.Minute}).Check(limits); err != nil {
		t.Error(err)
	}
	for field, r := range map[string]Request{
		"image":   {Image: "localhost/x"},
		"argv":    {Argv: []string{"sh"}},
		"env":     {Env: map[string]string{"A": "1"}},
		"secrets": {Secrets: Secrets{"A": "1"}},
		"workdir": {Workdir: "/w"},
		"tty":     {Streams: Streams{TTY: true}},
		"stdin":   {Streams: Streams{Stdin: true}},
		"mounts":  {Mounts: []Mount{{Target: "/a"}}},
	} {
		r.Checkpoint = "warm"
		_, err := r.Check(limits)
		if want := field + " cannot be given with from_checkpoint: it is the checkpoint's"; err == nil || err.Error() != want {
			t.Errorf("%v; want %s", err, want)
		}
	}
	if _, err := (Request{Checkpoint: "../warm"}).Check(limits); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a path for a checkpoint: %v", err)
	}
}

func TestCheckFillsInTheNodesDefaults(t *testing.T) {
	l := limits
	l.Resources = Resources{CPU: 2, MemoryMiB: 512, PIDs: 100, DiskMiB: 1024}
	probe := &Probe{Port: 80}
	got, err := Request{Image: "localhost/x", Resources: Resources{CPU: 1}, Ready: probe, Timeout: 30 * time.Second}.Check(l)
	if err != nil {
		t.Fatal(err)
	}
	want := Request{
		Image: "localhost/x", Timeout: 30 * time.Second,
		Resources: Resources{CPU: 1, MemoryMiB: 512, PIDs: 100, DiskMiB: 1024},
		Ready:     &Probe{Port: 80, Timeout: 30 * time.Second, Interval: ReadyInterval},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("request (-want +got):\n%s", diff)
	}
	if probe.Timeout != 0 || probe.Interval != 0 {
		t.Errorf("the caller's probe was changed: %+v", probe)
	}
}

func TestCheckOfWhatIsCounted(t *testing.T) {
	l := limits
	l.CPU, l.Memory = true, true
	r := Request{Image: "localhost/x"}
	for _, want := range []string{"quotas.cpu", "quotas.memory_mib"} {
		if _, err := r.Check(l); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want an error that names %s", err, want)
		}
		r.Resources.CPU = 1
	}
	r.Resources.MemoryMiB = 64
	if _, err := r.Check(l); err != nil {
		t.Error(err)
	}
}

func TestExecEnv(t *testing.T) {
	r := Record{Request: Request{Secrets: Secrets{"TOKEN": ""}}}
	if err := r.CheckExecEnv(map[string]string{"TOKENS": "1"}); err != nil {
		t.Error(err)
	}
	if err := r.CheckExecEnv(map[string]string{"TOKEN": "1"}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a secret's name: %v", err)
	}
}

func TestDigestDoesNotDependOnSecretValues(t *testing.T) {
	a, err := Request{Image: "x", Secrets: Secrets{"A": "1"}}.Digest()
	if err != nil {
		t.Fatal(err)
	}
	for _, other := range []Secrets{{"A": "2"}, {"B": "1"}} {
		b, err := Request{Image: "x", Secrets: other}.Digest()
		if err != nil {
			t.Fatal(err)
		}
		if same := maps.Equal(other, Secrets{"A": "2"}); (a == b) != same {
			t.Errorf("%v: the digest tells more or less than names", other)
		}
	}
}
