// Package deploy_test holds the files that install.sh copies against the code
// that reads them.
package deploy_test

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"brig/internal/config"
	"brig/nodeagent/containerd"
	"github.com/google/go-cmp/cmp"
	"github.com/pelletier/go-toml/v2"
)

func read(t *testing.T, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// The example says what the defaults are, and says it of every key.
func TestConfigIsTheDefaults(t *testing.T) {
	data := read(t, "config.toml")
	var got config.Config
	if err := config.Parse(data, &got); err != nil {
		t.Fatal(err)
	}
	want := config.Defaults()
	want.Network.AllowPrivate, want.Network.NodeAddresses, want.Network.DNS = []string{}, []string{}, []string{}
	want.Runsc.AllowedAnnotations = []string{}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("config.toml differs from the defaults (-defaults +file):\n%s", diff)
	}
	all, err := toml.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(keys(t, all), keys(t, data)); diff != "" {
		t.Errorf("keys differ (-configuration +file):\n%s", diff)
	}
}

func keys(t *testing.T, data []byte) map[string]bool {
	t.Helper()
	var tree map[string]any
	if err := toml.Unmarshal(data, &tree); err != nil {
		t.Fatal(err)
	}
	out := map[string]bool{}
	var walk func(prefix string, tree map[string]any)
	walk = func(prefix string, tree map[string]any) {
		for k, v := range tree {
			if sub, ok := v.(map[string]any); ok {
				walk(prefix+k+".", sub)
			} else {
				out[prefix+k] = true
			}
		}
	}
	walk("", tree)
	return out
}

// A node may move between a service manager and a brigd that starts containerd
// itself: both must run the same.
func TestContainerdIsTheOneThatBrigdWouldStart(t *testing.T) {
	cfg := config.Defaults()
	text, err := containerd.Render(&cfg)
	if err != nil {
		t.Fatal(err)
	}
	var want, got map[string]any
	if err := errors.Join(toml.Unmarshal(text, &want), toml.Unmarshal(read(t, "containerd.toml"), &got)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("containerd.toml differs (-brigd +file):\n%s", diff)
	}
}

func TestConflist(t *testing.T) {
	var got any
	if err := json.Unmarshal(read(t, "brig.conflist"), &got); err != nil {
		t.Fatal(err)
	}
	want := any(map[string]any{
		"cniVersion": "1.1.0",
		"name":       "brig",
		"plugins": []any{map[string]any{
			"type": "brig-cni", "config": config.DefaultPath,
			"capabilities": map[string]any{"brig.network-policy": true, "portMappings": true}, // the latter to be refused, not ignored
		}},
	})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("conflist differs (-want +got):\n%s", diff)
	}
}

// The handler of GPU pods differs from the node in one key.
func TestGPUHandler(t *testing.T) {
	want, got := config.Defaults(), config.Defaults()
	want.GPU.Sandboxes = "all"
	if err := config.Parse(read(t, "gpu.toml"), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("gpu.toml (-want +got):\n%s", diff)
	}
	classes := string(read(t, "kubernetes/runtimeclass.yaml"))
	for _, handler := range []string{"brig", "brig-gpu"} {
		if !strings.Contains(classes, "\nhandler: "+handler+"\n") || !strings.Contains(string(read(t, "containerd-system.toml")), "runtimes."+handler+"]") {
			t.Errorf("handler %s is not in both files", handler)
		}
	}
}

func TestTomlParses(t *testing.T) {
	var any map[string]any
	if err := toml.Unmarshal(read(t, "containerd-system.toml"), &any); err != nil {
		t.Fatal(err)
	}
}

func TestUnitsStartWhatIsInstalled(t *testing.T) {
	for unit, want := range map[string]string{
		"brigd.service":           "ExecStart=/usr/local/bin/brigd --config " + config.DefaultPath,
		"brig-containerd.service": "ExecStart=/usr/local/libexec/brig/containerd --config /etc/brig/containerd.toml",
	} {
		text := string(read(t, filepath.Join("systemd", unit)))
		for _, line := range []string{want, "KillMode=process", "Delegate=yes", "Type=notify"} {
			if !strings.Contains(text, "\n"+line+"\n") {
				t.Errorf("%s lacks the line %q", unit, line)
			}
		}
	}
}

func TestScriptsAreSound(t *testing.T) {
	for _, script := range []string{"dist.sh", "../install.sh"} {
		if out, err := exec.CommandContext(t.Context(), "bash", "-n", script).CombinedOutput(); err != nil {
			t.Errorf("bash -n %s: %v\n%s", script, err, out)
		}
		if !strings.Contains(string(read(t, script)), "\nset -euo pipefail\n") {
			t.Errorf("%s does not set -euo pipefail", script)
		}
	}
}
