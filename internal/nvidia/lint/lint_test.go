package lint

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"brig/internal/nvidia"
)

// good is a specification that gVisor can use; %s stands for more edits of all devices.
const good = `cdiVersion: 0.5.0
kind: nvidia.com/gpu
devices:
- name: "0"
  containerEdits:
    deviceNodes:
    - path: /dev/nvidia0
containerEdits:
  deviceNodes:
  - path: /dev/nvidiactl
%s`

const update = "generate it anew: nvidia-ctk cdi generate --feature-flag=disable-ipc-discoverer --nvidia-cdi-hook-path=/usr/local/libexec/brig/nvidia-cdi-hook"

func hook(path, name string, args ...string) string {
	text := "  hooks:\n  - hookName: " + name + "\n    path: " + path + "\n    args:\n"
	for _, a := range append([]string{filepath.Base(path)}, args...) {
		text += "    - " + a + "\n"
	}
	return text
}

func mount(path string) string {
	return "  mounts:\n  - hostPath: " + path + "\n    containerPath: /x\n"
}

func TestSpecs(t *testing.T) {
	for name, test := range map[string]struct {
		files map[string]string // by path below the test's folder; %DIR in them is that folder
		want  string
	}{
		"none":       {},
		"in order":   {files: map[string]string{"etc/a.yaml": spec(hook("%DIR/nvidia-cdi-hook", "createContainer", "create-symlinks") + mount("%DIR/libcuda.so.580.65.06")), "libcuda.so.580.65.06": ""}},
		"as JSON":    {files: map[string]string{"etc/a.json": `{"cdiVersion":"0.5.0","kind":"nvidia.com/gpu","devices":[{"name":"0","containerEdits":{"env":["A=b"]}}]}`}},
		"no spec":    {files: map[string]string{"etc/readme.txt": "hello", "etc/d.yaml/x": ""}},
		"of others":  {files: map[string]string{"etc/a.yaml": "cdiVersion: 0.5.0\nkind: vendor.com/net\ndevices:\n- name: a\n  containerEdits:\n    mounts:\n    - {hostPath: /nowhere, containerPath: /x}\n"}},
		"overridden": {files: map[string]string{"etc/a.yaml": spec(""), "run/a.yaml": spec("")}},
		"unreadable": {
			files: map[string]string{"etc/a.yaml": "cdiVersion: 0.5.0\nkind: nvidia.com/gpu\ndevice: []\n"},
			want:  "%DIR/etc/a.yaml: it is no CDI specification: failed to parse CDI Spec \"%DIR/etc/a.yaml\": failed to unmarshal CDI Spec: yaml: unmarshal errors: line 3: field device not found in type specs.Spec: generate it anew, or remove it\n",
		},
		"the form that fails": {
			files: map[string]string{"etc/a.yaml": spec(hook("/usr/bin/nvidia-ctk", "createContainer", "hook", "update-ldcache"))},
			want:  "%DIR/etc/a.yaml: its hook is /usr/bin/nvidia-ctk, which fails under gVisor: the path must end in /nvidia-cdi-hook: " + update + "\n",
		},
		"hook mode": {
			files: map[string]string{"etc/a.yaml": spec(hook("/usr/bin/nvidia-container-runtime-hook", "prestart"))},
			want:  "%DIR/etc/a.yaml: its hook /usr/bin/nvidia-container-runtime-hook is of NVIDIA's other way to set up GPUs, and the two exclude each other: keep one of them; brig wants CDI: " + update + "\n",
		},
		"nvidia-container-cli": {
			files: map[string]string{"etc/a.yaml": spec(hook("/usr/bin/nvidia-container-cli", "createContainer", "configure"))},
			want:  "%DIR/etc/a.yaml: its hook /usr/bin/nvidia-container-cli is of NVIDIA's other way to set up GPUs, and the two exclude each other: keep one of them; brig wants CDI: " + update + "\n",
		},
		"a stranger's hook": {
			files: map[string]string{"etc/a.yaml": spec(hook("/usr/bin/env", "createContainer"))},
			want:  "%DIR/etc/a.yaml: nothing is known of its hook /usr/bin/env: " + update + "\n",
		},
		"a hook that never runs": {
			files: map[string]string{"etc/a.yaml": spec(hook("/usr/bin/nvidia-cdi-hook", "startContainer", "chmod"))},
			want:  "%DIR/etc/a.yaml: gVisor runs no startContainer hook for it: " + update + "\n",
		},
		"a hook that is away": {
			files: map[string]string{"etc/a.yaml": spec(hook("%DIR/nvidia-cdi-hook.away/nvidia-cdi-hook", "createContainer"))},
			want:  "%DIR/etc/a.yaml: its hook %DIR/nvidia-cdi-hook.away/nvidia-cdi-hook does not exist: install it, or " + update + "\n",
		},
		"an old toolkit": {
			files: map[string]string{
				"etc/a.yaml":          spec(hook("%DIR/nvidia-cdi-hook", "createContainer", "update-ldcache", "--folder", "/x")),
				"var/lib/dpkg/status": "Package: other\nVersion: 9.9.9\n\nPackage: nvidia-container-toolkit-base\nStatus: install ok installed\nVersion: 1.17.8-1\n",
			},
			want: "%DIR/etc/a.yaml: its hook %DIR/nvidia-cdi-hook is of NVIDIA's toolkit 1.17.8, whose update-ldcache fails under gVisor: install version 1.20.1 or later, or " + update + "\n",
		},
		"a toolkit that is new enough": {
			files: map[string]string{
				"etc/a.yaml":          spec(hook("%DIR/nvidia-cdi-hook", "createContainer", "update-ldcache", "--folder", "/x")),
				"var/lib/dpkg/status": "Package: nvidia-container-toolkit-base\nVersion: 1.20.1-1\n",
			},
		},
		"persistenced": {
			files: map[string]string{"etc/a.yaml": spec(mount("/run/nvidia-persistenced/socket"))},
			want:  "%DIR/etc/a.yaml: it mounts the socket /run/nvidia-persistenced/socket, which gVisor cannot open: " + update + "\n",
		},
		"fabricmanager": {
			files: map[string]string{"etc/a.yaml": spec(mount("/var/run/nvidia-fabricmanager/socket"))},
			want:  "%DIR/etc/a.yaml: it mounts the socket /var/run/nvidia-fabricmanager/socket, which gVisor cannot open: " + update + "\n",
		},
		"MPS": {
			files: map[string]string{"etc/a.yaml": spec(mount("/tmp/nvidia-mps"))},
			want:  "%DIR/etc/a.yaml: it mounts the socket /tmp/nvidia-mps, which gVisor cannot open: " + update + "\n",
		},
		"a library that is missing": {
			files: map[string]string{"etc/a.yaml": spec(mount("%DIR/libcuda.so"))},
			want:  "%DIR/etc/a.yaml: it mounts %DIR/libcuda.so, which does not exist: " + update + "\n",
		},
		"libraries of before the upgrade": {
			files: map[string]string{"etc/a.yaml": spec(mount("%DIR/libcuda.so.570.172.08")), "libcuda.so.570.172.08": ""},
			want:  "%DIR/etc/a.yaml: it has %DIR/libcuda.so.570.172.08, and the kernel module is 580.65.06: " + update + "\n",
		},
		"MIG": {
			files: map[string]string{"etc/a.yaml": strings.Replace(spec(""), "/dev/nvidia0", "/dev/nvidia-caps/nvidia-cap21", 1)},
			want:  "%DIR/etc/a.yaml: it has /dev/nvidia-caps/nvidia-cap21 for a MIG device, and gVisor has no MIG: ask for whole GPUs, and switch MIG off: nvidia-smi -mig 0\n",
		},
		"one name in two files": {
			files: map[string]string{"etc/a.yaml": spec(""), "etc/b.yaml": spec("")},
			want:  "%DIR/etc/a.yaml: %DIR/etc/b.yaml has nvidia.com/gpu=0 too, so that nobody can have it by that name: remove one of them\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			files := map[string]string{
				"proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (x)\n",
				"nvidia-cdi-hook":            "",
			}
			for path, text := range test.files {
				files[path] = strings.ReplaceAll(text, "%DIR", dir)
			}
			for path, text := range files {
				path = filepath.Join(dir, path)
				if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
					t.Fatal(err)
				}
			}
			var got strings.Builder
			for _, f := range Specs(nvidia.Node{DriverRoot: dir, Proc: dir + "/proc", SpecDirs: []string{dir + "/etc", dir + "/run"}}) {
				if f.Refuses {
					t.Errorf("refuses: %s", f)
				}
				got.WriteString(f.String() + "\n")
			}
			if diff := cmp.Diff(strings.ReplaceAll(test.want, "%DIR", dir), got.String()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func spec(edits string) string { return strings.Replace(good, "%s", edits, 1) }
