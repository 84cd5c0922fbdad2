package hooks

import (
	"bytes"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// FuzzModify: whatever comes on top of what CDI has put into a spec, nothing that is
// refused survives in one that passes.
func FuzzModify(f *testing.F) {
	base, err := os.ReadFile("testdata/specs/caller-ctr-device.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, path, kind string, major, minor int64, program, args, env, mount, annotation string, stage uint8) {
		in := new(specs.Spec)
		if err := json.Unmarshal(base, in); err != nil {
			t.Fatal(err)
		}
		if stage%2 == 1 { // brigd's, in which CDI has put nothing yet
			in.Linux.Devices, in.Hooks = nil, new(specs.Hooks)
		}
		in.Annotations = map[string]string{"cdi.k8s.io/x": annotation}
		if stage%2 == 1 {
			in.Annotations = map[string]string{"brig/gpu": annotation}
		}
		in.Linux.Devices = append(in.Linux.Devices, specs.LinuxDevice{Path: path, Type: kind, Major: major, Minor: minor})
		in.Process.Env = append(in.Process.Env, env)
		in.Mounts = append(in.Mounts, specs.Mount{Destination: mount, Source: mount})
		lists := stages(in.Hooks)
		hooks := lists[int(stage/2)%len(lists)]
		*hooks = append(*hooks, specs.Hook{Path: program, Args: strings.Split(args, "\x00")})
		before, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		host := node("")
		host.Own = stage%2 == 1
		plan, err := Modify(in, host)
		if after, _ := json.Marshal(in); !bytes.Equal(before, after) {
			t.Errorf("the input was changed from %s to %s", before, after)
		}
		if err != nil {
			return
		}
		checkHooks(t, plan.Spec)
		checkDevices(t, plan)
		if len(plan.Devices) > 0 {
			checkMode(t, plan, host)
		}
	})
}

// checkHooks: runsc would run what is left, or take it for a wish.
func checkHooks(t *testing.T, spec *specs.Spec) {
	t.Helper()
	for _, stage := range stages(spec.Hooks) {
		for _, h := range *stage {
			if strings.Contains(programOf(h), "nvidia") {
				t.Errorf("hook %s %q survives", h.Path, h.Args)
			}
			for _, arg := range h.Args[min(1, len(h.Args)):] {
				for name := range programs {
					if strings.HasSuffix(arg, "/"+name) || arg == name {
						t.Errorf("hook %s %q survives", h.Path, h.Args)
					}
				}
			}
		}
	}
}

// checkDevices: what is left of the driver's are nodes that nvproxy emulates, under their
// own numbers, and the plan vouches for each of them.
func checkDevices(t *testing.T, plan *Plan) {
	t.Helper()
	var paths []string
	if plan.Spec.Linux == nil {
		return
	}
	for _, d := range plan.Spec.Linux.Devices {
		if !strings.HasPrefix(d.Path, "/dev/nvidia") && (d.Type == "p" || d.Major != nvidiaMajor) {
			continue
		}
		paths = append(paths, d.Path)
		known, number := expected(d.Path)
		if !known || d.Type != "c" || !number(d) {
			t.Errorf("device %+v survives", d)
		}
	}
	if diff := cmp.Diff(plan.Devices, paths); diff != "" {
		t.Errorf("devices: -vouched for +in the spec:\n%s", diff)
	}
	if !slices.IsSorted(paths) || len(slices.Compact(slices.Clone(paths))) != len(paths) {
		t.Errorf("devices are not sorted, each once: %q", paths)
	}
}

// checkMode: with GPUs there is one wish in the environment, which asks for nothing, and
// no socket.
func checkMode(t *testing.T, plan *Plan, host Host) {
	t.Helper()
	var wishes, caps []string
	for _, e := range plan.Spec.Process.Env {
		name, value, _ := strings.Cut(e, "=")
		switch name {
		case visibleDevices:
			wishes = append(wishes, value)
		case driverCapabilities:
			caps = append(caps, strings.Split(value, ",")...)
		}
	}
	if diff := cmp.Diff([]string{void}, wishes); diff != "" {
		t.Errorf("%s: %s", visibleDevices, diff)
	}
	if diff := cmp.Diff(plan.Capabilities, caps); diff != "" {
		t.Errorf("capabilities: -plan +environment:\n%s", diff)
	}
	if len(caps) == 0 || slices.ContainsFunc(caps, func(c string) bool { return !slices.Contains(host.Capabilities, c) }) {
		t.Errorf("capabilities %q, of %q", caps, host.Capabilities)
	}
	for _, m := range plan.Spec.Mounts {
		for _, bad := range []string{"/nvidia-persistenced/socket", "/nvidia-fabricmanager/socket", "/nvidia-mps"} {
			if strings.HasSuffix(m.Source, bad) || strings.HasSuffix(m.Destination, bad) {
				t.Errorf("mount %s of %s survives", m.Destination, m.Source)
			}
		}
	}
}
