package engine

import (
	"encoding/json"
	"testing"

	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"brig/nodeagent/record"
)

// apply runs the options that do not look into an image.
func apply(t *testing.T, s Sandbox) string {
	t.Helper()
	spec := &oci.Spec{Process: &specs.Process{}, Linux: &specs.Linux{}}
	e := &Engine{cgroup: "/brig"}
	for _, o := range e.options(s, nil)[1:] {
		if err := o(t.Context(), nil, &containers.Container{ID: s.ID}, spec); err != nil {
			t.Fatal(err)
		}
	}
	text, err := json.MarshalIndent(spec, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestSpec(t *testing.T) {
	got := apply(t, Sandbox{
		ID: "sb-x", Argv: []string{"python3", "-m", "http.server"}, Env: map[string]string{"B": "2", "A": "1"}, Workdir: "/w",
		Hostname: "web", Resources: record.Resources{CPU: 0.5, MemoryMiB: 64}, Annotations: map[string]string{"brig/cidr-allowlist": ""},
		Netns: "/run/netns/sb-x", Files: "/state/sb-x",
	})
	want := `{
 "ociVersion": "",
 "process": {
  "user": {
   "uid": 0,
   "gid": 0
  },
  "args": [
   "python3",
   "-m",
   "http.server"
  ],
  "env": [
   "A=1",
   "B=2"
  ],
  "cwd": "/w"
 },
 "hostname": "web",
 "mounts": [
  {
   "destination": "/etc/hosts",
   "type": "bind",
   "source": "/state/sb-x/hosts",
   "options": [
    "bind",
    "ro"
   ]
  },
  {
   "destination": "/etc/hostname",
   "type": "bind",
   "source": "/state/sb-x/hostname",
   "options": [
    "bind",
    "ro"
   ]
  },
  {
   "destination": "/etc/resolv.conf",
   "type": "bind",
   "source": "/state/sb-x/resolv.conf",
   "options": [
    "bind",
    "ro"
   ]
  }
 ],
 "annotations": {
  "brig/cidr-allowlist": ""
 },
 "linux": {
  "resources": {
   "memory": {
    "limit": 67108864,
    "swap": 67108864
   },
   "cpu": {
    "quota": 50000,
    "period": 100000
   }
  },
  "cgroupsPath": "/brig/sb-x",
  "namespaces": [
   {
    "type": "network",
    "path": "/run/netns/sb-x"
   }
  ]
 }
}`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("spec (-want +got):\n%s", diff)
	}
}

func TestIdleSpec(t *testing.T) {
	var got specs.Spec
	if err := json.Unmarshal([]byte(apply(t, Sandbox{ID: "sb-x", Files: "/f", Idle: "/lib/brig-idle"})), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"/.brig/idle"}, got.Process.Args); diff != "" {
		t.Errorf("argv (-want +got):\n%s", diff)
	}
	last := got.Mounts[len(got.Mounts)-1]
	if diff := cmp.Diff(specs.Mount{Destination: "/.brig/idle", Type: "bind", Source: "/lib/brig-idle", Options: []string{"bind", "ro"}}, last); diff != "" {
		t.Errorf("mount (-want +got):\n%s", diff)
	}
}

func TestMerge(t *testing.T) {
	got := merge([]string{"PATH=/bin", "A=1"}, []string{"A=2", "B=x=y"})
	if diff := cmp.Diff([]string{"PATH=/bin", "A=2", "B=x=y"}, got); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
}

func TestNormal(t *testing.T) {
	for in, want := range map[string]string{
		"python":                  "docker.io/library/python:latest",
		"localhost:5000/python:3": "localhost:5000/python:3",
		"brig.test/busybox:1":     "brig.test/busybox:1",
		"A b":                     "",
	} {
		if got, err := normal(in); got != want || (err != nil) != (want == "") {
			t.Errorf("%s: %q, %v; want %q", in, got, err, want)
		}
	}
}
