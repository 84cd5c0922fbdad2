package standalone

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"brig/internal/config"
)

func TestPrepare(t *testing.T) {
	dir := t.TempDir()
	overrides := "[network]\ndns = [\"192.0.2.53\"]\n[tunnels]\nbind = \"0.0.0.0\"\n[containerd]\nnamespace = \"other\"\n"
	if err := os.WriteFile(filepath.Join(dir, "overrides.toml"), []byte(overrides), 0o600); err != nil {
		t.Fatal(err)
	}
	path, err := Prepare(dir)
	if err != nil {
		t.Fatal(err)
	}
	got, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin := filepath.Dir(exe)
	want := config.Defaults()
	want.Node = Node(dir)
	want.StateDir = filepath.Join(dir, "state")
	want.RunDir = "/run/brig-" + Node(dir)
	want.Socket = filepath.Join(dir, "brig.sock")
	want.Runsc.Path = filepath.Join(bin, "deps", "runsc")
	want.Containerd = config.Containerd{
		Address: filepath.Join(dir, "containerd.sock"), Namespace: "other", Binary: filepath.Join(bin, "deps", "containerd"),
	}
	want.CNI = config.CNI{BinDir: bin, ConfDir: filepath.Join(dir, "cni", "net.d")}
	want.Network.DNS = []string{"192.0.2.53"}
	want.Tunnels.Bind = "0.0.0.0"
	want.Sandboxes.Guest = filepath.Join(bin, "guest")
	want.GPU.Generator, want.GPU.Publish = filepath.Join(bin, "deps", "brig-nvcdi"), ""
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("configuration (-want +got):\n%s", diff)
	}
	network, err := os.ReadFile(filepath.Join(got.CNI.ConfDir, "10-brig.conflist"))
	if err != nil {
		t.Fatal(err)
	}
	wantNetwork := `{
  "cniVersion": "1.1.0",
  "name": "brig",
  "plugins": [
    {
      "capabilities": {
        "brig.network-policy": true,
        "portMappings": true
      },
      "config": "` + path + `",
      "type": "brig-cni"
    }
  ]
}
`
	if diff := cmp.Diff(wantNetwork, string(network)); diff != "" {
		t.Errorf("CNI network (-want +got):\n%s", diff)
	}
}

// TestPrepareAgain: whoever reads the configuration meanwhile reads all of it.
func TestPrepareAgain(t *testing.T) {
	dir := t.TempDir()
	path, err := Prepare(dir)
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	again := make(chan error, 1)
	go func() {
		var err error
		for i := 0; i < 200 && err == nil; i++ {
			_, err = Prepare(dir)
		}
		again <- err
	}()
	for {
		select {
		case err := <-again:
			if err != nil {
				t.Error(err)
			}
			if left, _ := filepath.Glob(path + "?*"); len(left) > 0 {
				t.Errorf("%v is left", left)
			}
			return
		default:
			if got, err := os.ReadFile(path); err != nil || string(got) != string(want) {
				t.Fatalf("%q, %v", got, err)
			}
		}
	}
}

func TestNodesOfTwoFoldersDiffer(t *testing.T) {
	a, b := Node("/tmp/a"), Node("/tmp/b")
	if a == b || len(a) != 8 || Node("/tmp/a") != a {
		t.Errorf("nodes %s and %s", a, b)
	}
}

func TestBrokenOverrides(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "overrides.toml"), []byte("node = "), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Prepare(dir); err == nil || !strings.Contains(err.Error(), "overrides.toml") {
		t.Errorf("%v; want an error that names the file", err)
	}
}

func TestUnescape(t *testing.T) {
	if got := unescape(`/a\040b\134c`); got != `/a b\c` {
		t.Errorf("%q", got)
	}
}

func TestAFolderThatOthersMayWriteIsRefused(t *testing.T) {
	open := t.TempDir()
	if err := os.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(t.TempDir(), link); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{open, link} {
		if _, err := Prepare(dir); err == nil || !strings.Contains(err.Error(), dir+" must be a folder") {
			t.Errorf("%s: error %v", dir, err)
		}
		if _, err := os.Stat(filepath.Join(dir, "config.toml")); err == nil {
			t.Errorf("%s: a configuration was written all the same", dir)
		}
	}
}
