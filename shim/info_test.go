package shim

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"brig/internal/config"
	"brig/shim/bundle"

	"github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/containerd/api/types/runtimeoptions/v1"
	"github.com/containerd/typeurl/v2"
	"github.com/opencontainers/runtime-spec/specs-go/features"
	"google.golang.org/protobuf/proto"
)

const fakeRunsc = `#!/bin/sh
case $1 in
features) echo '{"ociVersionMin":"1.0.0","ociVersionMax":"1.2.1","hooks":["prestart","startContainer"],"mountOptions":["bind","ro"],
  "linux":{"namespaces":["user"],"cgroup":{"v1":true,"v2":false}},
  "annotations":{"dev.gvisor.flag.debug":"false"},"potentiallyUnsafeConfigAnnotations":["dev.gvisor.flag.overlay"]}' ;;
--version) echo "runsc version 2026-01-02"; echo "spec: 1.2.1" ;;
esac
`

func TestInfo(t *testing.T) {
	dir := t.TempDir()
	runsc := filepath.Join(dir, "runsc")
	if err := os.WriteFile(runsc, []byte(fakeRunsc), 0o700); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(dir, "other.toml")
	if err := os.WriteFile(other, []byte("[runsc]\npath = \""+runsc+"\"\nallowed_annotations = [\"dev.gvisor.spec.mount.x.type\"]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv(config.EnvPath, other+".not")

	encoded, err := typeurl.MarshalAnyToProto(&runtimeoptions.Options{ConfigPath: other})
	if err != nil {
		t.Fatal(err)
	}
	stdin, err := proto.Marshal(encoded)
	if err != nil {
		t.Fatal(err)
	}
	info, err := manager{}.Info(t.Context(), bytes.NewReader(stdin))
	if err != nil {
		t.Fatal(err)
	}
	if info.Name != "io.containerd.brig.v1" || info.Version.Version == "" || !proto.Equal(info.Options, encoded) || info.Annotations[annotationRunsc] != "2026-01-02" {
		t.Errorf("info: %v", info)
	}
	var can features.Features
	if err := json.Unmarshal(info.Features.GetValue(), &can); err != nil || info.Features.GetTypeUrl() != "types.containerd.io/opencontainers/runtime-spec/1/features/Features" {
		t.Fatalf("features of type %s: %v", info.Features.GetTypeUrl(), err)
	}
	if !slices.Equal(can.MountOptions, bundle.MountOptions()) || !slices.Contains(can.MountOptions, "rro") {
		t.Errorf("mount options %v", can.MountOptions)
	}
	if !slices.Equal(can.Hooks, []string{"prestart"}) || !slices.Equal(can.PotentiallyUnsafeConfigAnnotations, []string{"dev.gvisor.spec.mount.x.type"}) || !*can.Linux.Cgroup.V2 || !*can.Linux.Cgroup.Systemd {
		t.Errorf("features are runsc's, not brig's: %s", info.Features.GetValue())
	}

	wrong, err := typeurl.MarshalAnyToProto(&options.Options{BinaryName: "runc"})
	if err != nil {
		t.Fatal(err)
	}
	if stdin, err = proto.Marshal(wrong); err != nil {
		t.Fatal(err)
	}
	if _, err := (manager{}).Info(t.Context(), bytes.NewReader(stdin)); err == nil || !strings.Contains(err.Error(), "binary_name") {
		t.Errorf("info about options that no sandbox could have: %v", err)
	}
	if _, err := (manager{}).Info(t.Context(), strings.NewReader("\xff\xff")); err == nil {
		t.Error("info about rubbish")
	}
}
